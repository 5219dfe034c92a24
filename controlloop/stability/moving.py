"""Lets servers move to another accelerator or batch where that pays, and fits beside what runs.

A move costs a start of every replica: it must win by a margin for several cycles on end, and is
begun only by a server that nothing holds. Old and new replicas run at once for a while: both must
fit the cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Action, Decisions, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Workload
from controlloop.api.solution import Solution
from controlloop.api.switching import SwitchState
from controlloop.api.system import Allocation, PerfParameters, System
from controlloop.protocols import Policy
from controlloop.stability.choosing import Spot, choices_of
from controlloop.stability.deciding import is_elsewhere

Trial = Callable[[Problem], Solution]
"""Solves a problem whose answer is only looked at."""

NO_LIMIT: Final = 2**31 - 1
"""Of a hold that forbids nothing but a move: of replicas it lets be as many as may be."""


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """When a server may move.

    Attributes:
        accelerators: those with a template.
        margin: share of its cost that a move must save.
        cycles: so many cycles on end the same move must win.
        unlimited: whether cards are no matter.
        batches: whether a server may also change its maximum batch.

    """

    accelerators: frozenset[str]
    margin: float = 0.1
    cycles: int = 5
    unlimited: bool = False
    batches: bool = True


@dataclass(frozen=True, slots=True)
class _Wish:
    """A move that won `cycles` times on end."""

    spot: Spot
    cycles: int


class MovingPolicy:
    """Another policy, which holds every server where it runs, with moves on top.

    Args:
        inner: bounds and steadies the replicas.
        options: when a server may move.
        trial: what would be chosen if servers could move; asked each cycle.
        accelerators: those with a template now; None is those of the options.

    """

    def __init__(
        self,
        inner: Policy,
        options: MoveOptions,
        trial: Trial,
        accelerators: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._inner = inner
        self._options = options
        self._trial = trial
        self._accelerators = accelerators or (lambda: options.accelerators)
        self._wishes: Mapping[str, _Wish] = {}
        self._surges: Mapping[str, int] = {}

    def shape(self, situation: Situation) -> Problem:
        """The inner policy's problem; servers whose move won for long enough are free to go."""
        problem = _with_both_counted(self._inner.shape(situation), situation)
        found = self._better(problem, self._choices(problem, situation))
        self._wishes = {name: self._wish(name, each) for name, each in found.items()}
        ripe = {
            name: each
            for name, each in found.items()
            if self._wishes[name].cycles >= self._options.cycles
        }
        return self._with_moves(problem, ripe)

    def steady(self, problem: Problem, solution: Solution) -> Decisions:
        """The inner policy's decisions; a switch knows how many new replicas fit beside."""
        decided = self._inner.steady(problem, solution)
        return replace(
            decided,
            decisions=tuple(
                replace(each, surge=self._surges.get(each.server, 0))
                if each.action is Action.SWITCH
                else each
                for each in decided.decisions
            ),
        )

    def _wish(self, name: str, there: Allocation) -> _Wish:
        spot, before = Spot(there.accelerator, there.max_batch), self._wishes.get(name)
        lasts = before is not None and before.spot == spot
        return _Wish(spot, before.cycles + 1 if before is not None and lasts else 1)

    def _choices(
        self, problem: Problem, situation: Situation
    ) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """Servers that could move, and what they may choose from."""
        options, system, accelerators = self._options, problem.system, self._accelerators()
        loads = {each.name: each.current.load for each in system.servers}
        perf: dict[str, list[PerfParameters]] = {}
        for entry in system.perf:
            perf.setdefault(entry.model, []).append(entry)
        found = {}
        for each in situation.observation.servers:
            name, workload, wish = each.name, each.workload, self._wishes.get(each.name)
            if problem.holds.get(name):
                continue
            if not _could_switch(workload, accelerators, situation.now):
                continue
            choices = choices_of(
                workload,
                loads[name],
                perf.get(workload.model, ()),
                accelerators,
                None if wish is None else wish.spot,
                batches=options.batches,
            )
            if sum(len(some) for some in choices.values()) > 1:
                found[name] = choices
        return found

    def _better(
        self, problem: Problem, choices: Mapping[str, Mapping[str, tuple[int, ...]]]
    ) -> Mapping[str, Allocation]:
        """Allocations elsewhere that save enough against staying, by server.

        Who would get less than it needs where it runs saves enough by getting it elsewhere.
        """
        if not choices:
            return {}
        constraints = {
            name: replace(each, accelerator=None, choices=choices[name])
            if name in choices
            else each
            for name, each in problem.constraints.items()
        }
        solution = self._trial(replace(problem, constraints=constraints))
        short = {each.server for each in solution.unserved}
        current = {each.name: each.current for each in problem.system.servers}
        elsewhere = {
            name: there
            for name in choices
            if (there := solution.allocations.get(name)) is not None
            and name not in short
            and there.replicas
            and not there.variants
            and is_elsewhere(current[name], there)
        }
        if not elsewhere:
            return {}
        staying = self._trial(problem)
        short = {each.server for each in staying.unserved}
        found = {}
        for name, there in elsewhere.items():
            stay = staying.allocations.get(name)
            most = 0.0 if stay is None else stay.cost_per_hour * (1.0 - self._options.margin)
            if stay is None or name in short or there.cost_per_hour <= most:
                found[name] = there
        return found

    def _with_moves(self, problem: Problem, ripe: Mapping[str, Allocation]) -> Problem:
        """`problem` with those moves made free for which both old and new replicas fit."""
        system = problem.system
        counter, models = CardCounter(system), {each.name: each.model for each in system.servers}
        current = {each.name: each.current for each in system.servers}
        taken = Counter(counter.used(current))
        capacity, constraints = dict(system.capacity), dict(problem.constraints)
        holds = dict(problem.holds)
        surges: dict[str, int] = {}
        for name, there in ripe.items():
            now = current[name]
            one = counter.of_replica(models[name], there.accelerator)
            if one is None:
                continue
            free = system.capacity.get(one.card_type, 0) - taken[one.card_type]
            surge = there.replicas
            if not self._options.unlimited and free < one.count * there.replicas:
                old = counter.of_replica(models[name], now.accelerator)
                surge = _surge_within(free, one.count, old == one)
            if surge < 1:
                detail = (
                    f"{there.replicas} replicas of {there.accelerator} with a maximum batch of"
                    f" {there.max_batch} do not fit beside"
                    f" {now.replicas} of {now.accelerator}: {max(free, 0)} cards of type"
                    f" {one.card_type} are free"
                )
                # It forbids nothing but the move: of replicas it lets be as many as may be.
                hold = Hold(HoldReason.SWITCH_NO_ROOM, Forbids.INCREASE, detail, NO_LIMIT)
                holds[name] = (*holds.get(name, ()), hold)
                continue
            surges[name] = surge
            taken += Counter({one.card_type: one.count * surge})
            for kind, cards in counter.of(models[name], now).items():
                capacity[kind] = max(capacity.get(kind, 0) - cards, 0)
            constraints[name] = replace(
                constraints[name],
                accelerator=there.accelerator,
                max_batch=there.max_batch or constraints[name].max_batch,
            )
        self._surges = surges
        return replace(
            problem,
            system=replace(system, capacity=capacity),
            constraints=constraints,
            holds=holds,
        )


def _surge_within(free: int, cards: int, same: bool) -> int:  # noqa: FBT001 - private
    """Replicas that fit beside the old ones, where not all do.

    On the same cards a rolling change gets by with any surge: each old replica that goes makes
    room. On others nothing is made free.
    """
    return free // cards if same and free >= cards else 0


def _could_switch(workload: Workload, accelerators: Collection[str], now: float) -> bool:
    rollable = workload.rollable
    if rollable is None or workload.accelerator not in accelerators or workload.replicas < 1:
        return False
    failed = rollable.failure is not None and now < rollable.failure.until
    return rollable.rolling and rollable.settled and rollable.switch is None and not failed


def _with_both_counted(problem: Problem, situation: Situation) -> Problem:
    """Less the cards of old (or, being undone, new) pods of switches under way.

    What a workload's labels name counts as its own already.
    """
    system: System = problem.system
    counter, capacity = CardCounter(system), dict(system.capacity)
    for each in situation.observation.servers:
        rollable = each.workload.rollable
        record = None if rollable is None else rollable.switch
        if record is None:
            continue
        undoing = record.state is SwitchState.UNDOING
        other = record.after if undoing else record.before
        one = counter.of_replica(each.workload.model, other.accelerator)
        if one is not None:
            cards = one.count * other.replicas
            capacity[one.card_type] = max(capacity.get(one.card_type, 0) - cards, 0)
    return replace(problem, system=replace(system, capacity=capacity))
