"""Which servers are to run on several accelerators, and on how many replicas of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Problem, SiblingGoal, Situation
from controlloop.api.holds import HoldReason
from controlloop.api.system import PerfParameters
from controlloop.stability.choosing import Spot, choices_of
from controlloop.stability.mix_question import siblings_in, whole_problem
from controlloop.stability.mix_room import begin, note
from controlloop.stability.mixes import (
    Mix,
    Part,
    Prices,
    Standing,
    needs_by_spot,
    rest_needed,
    running,
    whole,
)
from controlloop.stability.moving import NO_LIMIT, Trial
from controlloop.stability.sibling_targets import SiblingTargets
from controlloop.stability.windows import NeedsOf


@dataclass(frozen=True, slots=True)
class MixOptions:
    """When a server may run on several accelerators.

    Attributes:
        accelerators: those with a template.
        margin: share of its cost that another mix must save.
        cycles: so many cycles on end the same accelerators must win.
        unlimited: whether cards are no matter.
        batches: whether a sibling may have another maximum batch.
        even: whether every replica gets as many requests as any other; see `rest_needed`.
        startup_s: replicas that are not ready after so long are given up.
        backoff_s: after that no mix is tried for so long, doubled by each further one.
        down_window_s: where a mix takes replicas away and adds none, it must win for so long, and
            the largest that won meanwhile is made.
        written: whether what is asked for is made; in a dry run it never comes.

    """

    accelerators: frozenset[str]
    margin: float = 0.1
    cycles: int = 5
    unlimited: bool = False
    batches: bool = True
    even: bool = True
    startup_s: float = 600.0
    backoff_s: float = 1800.0
    down_window_s: float = 0.0
    written: bool = True


@dataclass(frozen=True, slots=True)
class _Wish:
    """A mix that won `cycles` times on end since `since`, by what its siblings run on."""

    mix: Mix
    cycles: int
    since: float


class MixChoice:
    """Remembers for how long a mix has been the best, and chooses it once that is long enough.

    Args:
        options: when a server may run on several accelerators.
        trial: what would be best if servers could.
        needs_of: sizes loads for an accelerator.
        memory: what is to become of siblings.

    """

    def __init__(
        self, options: MixOptions, trial: Trial, needs_of: NeedsOf, memory: SiblingTargets
    ) -> None:
        self._options = options
        self._trial = trial
        self._needs_of = needs_of
        self._memory = memory
        self._wishes: Mapping[str, _Wish] = {}
        self._claimed: frozenset[str] = frozenset()
        self._remark = ""

    @property
    def remark(self) -> str:
        """What the solver says of how it weighed several accelerators; "" for nothing."""
        return self._remark

    @property
    def claimed(self) -> Collection[str]:
        """Servers for which a mix is the best, and nothing but time speaks against it."""
        return self._claimed

    def made(
        self,
        situation: Situation,
        problem: Problem,
        standings: Mapping[str, Standing],
        accelerators: Collection[str],
        short: Collection[str],
    ) -> tuple[Problem, Mapping[str, tuple[SiblingGoal, ...]]]:
        """The problem less the cards of siblings that are to come, and what is to come.

        What is to go is remembered, and goes from the next cycle on.

        Args:
            situation: as it is, with all loads whole.
            problem: without siblings.
            standings: the servers that are named once.
            accelerators: those with a template.
            short: servers that did not get the cards that they needed in the cycle before.

        """
        problem = self._with_failures(problem, standings, situation.now)
        free = {
            name: each
            for name, each in standings.items()
            if self._is_free(each, problem, accelerators, situation.now)
        }
        choices = self._choices(situation, free, accelerators)
        self._remark = ""
        better = self._better(situation, problem, free, choices, short) if choices else {}
        self._wishes = {
            name: self._wish(free[name], mix, situation.now) for name, mix in better.items()
        }
        ripe = {
            name: wish.mix
            for name, wish in self._wishes.items()
            if self._is_ripe(free[name], wish, situation.now)
        }
        begun = begin(problem, free, ripe, unlimited=self._options.unlimited)
        self._claimed = frozenset(self._wishes) - (ripe.keys() - begun.goals.keys())
        for name, fewer in begun.leaving.items():
            self._memory.leave(name, fewer, situation.now)
        if self._options.written:
            self._memory.asked(_to_be_made(begun.goals), situation.now)
        return begun.problem, begun.goals

    def _wish(self, standing: Standing, mix: Mix, now: float) -> _Wish:
        before = self._wishes.get(standing.seen.name)
        if before is None or before.mix.siblings.keys() != mix.siblings.keys():
            return _Wish(mix, 1, now)
        if _takes_only(standing, mix) and before.mix.replicas > mix.replicas:
            mix = before.mix
        return _Wish(mix, before.cycles + 1, before.since)

    def _is_ripe(self, standing: Standing, wish: _Wish, now: float) -> bool:
        window_s = self._options.down_window_s if _takes_only(standing, wish.mix) else 0.0
        return wish.cycles >= self._options.cycles and now - wish.since >= window_s

    def _with_failures(
        self, problem: Problem, standings: Mapping[str, Standing], now: float
    ) -> Problem:
        holds = dict(problem.holds)
        for name, each in standings.items():
            failure = self._memory.failure(name, now)
            if failure is not None and not _moves(each, problem):
                left_s = failure.until - now
                detail = f"{failure.detail}; no mix is tried for {left_s:.0f} s"
                holds[name] = (*holds.get(name, ()), note(HoldReason.SIBLING_FAILED, detail))
        return replace(problem, holds=holds)

    def _is_free(
        self, each: Standing, problem: Problem, accelerators: Collection[str], now: float
    ) -> bool:
        """Whether nothing holds a server, and all its replicas are what they are to be."""
        workload, name = each.seen.workload, each.seen.name
        rollable = workload.rollable
        if each.why or each.held or each.needed is None or rollable is None:
            return False
        if any(hold.limit != NO_LIMIT for hold in problem.holds.get(name, ())):
            return False
        still = all(
            one.replicas == each.targets[one.accelerator] == one.ready_replicas
            for one in each.seen.siblings
        )
        runs = workload.replicas > 0 and workload.accelerator in accelerators
        settled = rollable.settled and rollable.switch is None
        calm = not _moves(each, problem) and self._memory.failure(name, now) is None
        return runs and settled and still and calm

    def _choices(
        self, situation: Situation, free: Mapping[str, Standing], accelerators: Collection[str]
    ) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """What each server may choose from; the batches that run stay."""
        system = situation.system
        loads = {each.name: each.current.load for each in system.servers}
        perf: dict[str, list[PerfParameters]] = {}
        for entry in system.perf:
            perf.setdefault(entry.model, []).append(entry)
        found = {}
        for name, each in free.items():
            workload = each.seen.workload
            if loads[name].is_empty:
                continue
            choices = dict(
                choices_of(
                    workload,
                    loads[name],
                    perf.get(workload.model, ()),
                    accelerators,
                    None,
                    batches=self._options.batches,
                )
            )
            for one in (workload, *each.seen.siblings):
                choices[one.accelerator] = (one.max_batch,)
            if len(choices) > 1:
                found[name] = choices
        return found

    def _better(
        self,
        situation: Situation,
        problem: Problem,
        free: Mapping[str, Standing],
        choices: Mapping[str, Mapping[str, tuple[int, ...]]],
        short: Collection[str],
    ) -> Mapping[str, Mix]:
        """Mixes other than those that run that save enough, or give what else is not to be had."""
        solution = self._trial(whole_problem(situation, problem, free, choices))
        self._remark = solution.message
        unserved = {each.server for each in solution.unserved}
        wanted = {
            name: siblings
            for name in choices
            if name not in unserved
            and (siblings := siblings_in(solution, name, free[name])) is not None
        }
        spots = {name: {*siblings, *running(free[name])} for name, siblings in wanted.items()}
        needs = needs_by_spot(situation.system, spots, self._needs_of)
        prices, found = Prices(situation.system), {}
        crowded = _Crowded(problem)
        for name, siblings in wanted.items():
            before, bounds = running(free[name]), problem.constraints[name]
            now, then = (
                self._mix(free[name], some, needs, prices, bounds.min_replicas)
                for some in (before, siblings)
            )
            pays = then.cost_per_hour <= now.cost_per_hour * (1.0 - self._options.margin)
            lacks = name in short or crowded(free[name], now.own)
            helps = lacks and then.own < now.own
            most = bounds.max_replicas
            beside = sum(before.values())
            fits = most is None or then.replicas <= most + beside
            if siblings != before and fits and (pays or helps):
                found[name] = then
        return found

    def _mix(
        self,
        standing: Standing,
        siblings: Mapping[Spot, int],
        needs: Mapping[tuple[str, Spot], float],
        prices: Prices,
        least: int,
    ) -> Mix:
        seen = standing.seen
        workload = seen.workload
        parts = [Part(count, needs.get((seen.name, spot))) for spot, count in siblings.items()]
        rest = rest_needed(standing.needed or 0.0, parts, even=self._options.even)
        own = max(whole(rest), least, 1)
        cost = own * prices.of(workload.model, workload.accelerator) + sum(
            count * prices.of(workload.model, spot.accelerator) for spot, count in siblings.items()
        )
        return Mix(siblings, own, cost)


class _Crowded:
    """Whether a server finds no cards for so many replicas of its own."""

    def __init__(self, problem: Problem) -> None:
        system = problem.system
        self._counter = CardCounter(system)
        self._left = Counter(dict(system.capacity))
        self._left.subtract(
            self._counter.used({each.name: each.current for each in system.servers})
        )

    def __call__(self, standing: Standing, own: int) -> bool:
        workload = standing.seen.workload
        one = self._counter.of_replica(workload.model, workload.accelerator)
        more = own - workload.replicas
        return one is not None and more > 0 and one.count * more > self._left[one.card_type]


def _to_be_made(
    goals: Mapping[str, tuple[SiblingGoal, ...]],
) -> Mapping[str, Collection[str]]:
    """The accelerators on which there is no sibling yet, of servers that have such goals."""
    found = {
        name: [one.accelerator for one in each if one.ref is None] for name, each in goals.items()
    }
    return {name: new for name, new in found.items() if new}


def _takes_only(standing: Standing, mix: Mix) -> bool:
    """Whether it takes replicas away and adds none anywhere."""
    there = running(standing)
    siblings = all(count <= there.get(spot, 0) for spot, count in mix.siblings.items())
    return siblings and mix.own <= standing.seen.workload.replicas


def _moves(standing: Standing, problem: Problem) -> bool:
    """Whether the server is about to move as a whole."""
    workload, bounds = standing.seen.workload, problem.constraints[standing.seen.name]
    return bounds.accelerator != workload.accelerator or bounds.max_batch not in (
        None,
        workload.max_batch,
    )
