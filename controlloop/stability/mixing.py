"""Makes several accelerators of one server real: siblings carry a part, its own replicas the rest.

The stages inside see a server on its own accelerator, sized for what its siblings leave of the
load, so that all that steadies replicas goes on to. Only replicas of siblings that are ready carry
anything, and those that are to go carry nothing: what replaces them is there first, either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Decision, Decisions, Problem, SiblingGoal, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import ServerObservation
from controlloop.api.placing import less, unplaced_replicas
from controlloop.api.solution import Solution, UnservedReason
from controlloop.protocols import Policy
from controlloop.stability.mix_choice import MixChoice, MixOptions
from controlloop.stability.mixes import (
    Part,
    Standing,
    needs_by_spot,
    own_share,
    rest_needed,
    spot_of,
)
from controlloop.stability.moving import Trial
from controlloop.stability.sibling_targets import SiblingTargets, going, renewed
from controlloop.stability.windows import NeedsOf

STEADINESS: Final = frozenset(
    {
        HoldReason.DOWN_WINDOW,
        HoldReason.FLAPPING,
        HoldReason.TOLERANCE,
        HoldReason.STEP_LIMIT,
        HoldReason.COOLDOWN,
        HoldReason.CHANGE_IN_PROGRESS,
    }
)
"""Holds that keep a server's own replicas for the sake of calm: siblings may go meanwhile."""


class MixingPolicy:
    """Another policy, which sees servers on one accelerator each, with siblings beside.

    Args:
        inner: bounds and steadies a server's own replicas.
        options: when a server may run on several accelerators.
        trial: what would be best if servers could; asked each cycle.
        needs_of: sizes loads for an accelerator.
        accelerators: those with a template now; None is those of the options.

    """

    def __init__(
        self,
        inner: Policy,
        options: MixOptions,
        trial: Trial,
        needs_of: NeedsOf,
        accelerators: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._inner = inner
        self._options = options
        self._needs_of = needs_of
        self._accelerators = accelerators or (lambda: options.accelerators)
        self._memory = SiblingTargets(options.startup_s, options.backoff_s)
        self._choice = MixChoice(options, trial, needs_of, self._memory)
        self._short: frozenset[str] = frozenset()
        self._goals: Mapping[str, tuple[SiblingGoal, ...]] = {}

    def shape(self, situation: Situation) -> Problem:
        """The inner policy's problem, each server with what its siblings leave of its load."""
        accelerators = frozenset(self._accelerators())
        standings = self._standings(situation, accelerators)
        problem = self._inner.shape(without_siblings(situation, standings, self._choice.claimed))
        problem = _said(problem, standings)
        going_now = {
            name: _going(each, problem.holds.get(name, ())) for name, each in standings.items()
        }
        problem, growing = self._choice.made(
            situation, problem, standings, accelerators, self._short
        )
        goals = {name: each + growing.get(name, ()) for name, each in going_now.items()}
        self._goals = {name: each for name, each in goals.items() if each}
        return problem

    def steady(self, problem: Problem, solution: Solution) -> Decisions:
        """The inner policy's decisions, and with them what becomes of siblings."""
        decided = self._inner.steady(problem, solution)
        no_cards = {
            each.server for each in solution.unserved if each.reason is UnservedReason.NO_CAPACITY
        }
        no_node = {
            each.server
            for each in decided.decisions
            if any(hold.reason is HoldReason.NO_NODE_FITS for hold in each.holds)
        }
        self._short = frozenset(no_cards | no_node)
        remark = self._choice.remark
        return replace(
            decided,
            notes=(*decided.notes, f"several accelerators: {remark}") if remark else decided.notes,
            decisions=tuple(
                _with_goals(each, self._goals.get(each.server, ())) for each in decided.decisions
            ),
        )

    def _standings(
        self, situation: Situation, accelerators: Collection[str]
    ) -> Mapping[str, Standing]:
        """Every server that is named once, with what its siblings carry."""
        self._memory.forget_others(situation.observation.servers)
        names = Counter(each.name for each in situation.observation.servers)
        seen = [each for each in situation.observation.servers if names[each.name] == 1]
        spots = {
            each.name: [spot_of(one) for one in (each.workload, *each.siblings)] for each in seen
        }
        needs = needs_by_spot(situation.system, spots, self._needs_of)
        found = {}
        for each in seen:
            holds = situation.holds.get(each.name, ())
            held = any(hold.forbids is Forbids.CHANGE for hold in holds)
            why = _why_none(each, situation, accelerators)
            targets: Mapping[str, int] = {one.accelerator: one.replicas for one in each.siblings}
            if not held:
                targets = self._memory.of(each, situation.now, unwanted=bool(why))
            home = needs.get((each.name, spot_of(each.workload)))
            parts = [
                Part(
                    min(one.ready_replicas, targets[one.accelerator]),
                    needs.get((each.name, spot_of(one))),
                )
                for one in each.siblings
            ]
            rest = None if home is None else rest_needed(home, parts, even=self._options.even)
            found[each.name] = Standing(each, targets, why, home, rest, held)
        return found


def _with_goals(decision: Decision, goals: tuple[SiblingGoal, ...]) -> Decision:
    """The decision that says what becomes of siblings, too."""
    words = (_in_words(goal) for goal in goals)
    return replace(decision, reason="; ".join([decision.reason, *words]), siblings=goals)


def _in_words(goal: SiblingGoal) -> str:
    if goal.gone:
        return f"its sibling on {goal.accelerator} is removed: {goal.reason}"
    if goal.renewed:
        return f"its sibling on {goal.accelerator} is renewed: {goal.reason}"
    return f"beside it {goal.before} -> {goal.replicas} of {goal.accelerator}: {goal.reason}"


def without_siblings(
    situation: Situation, standings: Mapping[str, Standing], claimed: Collection[str] = ()
) -> Situation:
    """The situation in which siblings, their cards and what they carry of loads are not there.

    Who has siblings, or is `claimed` for a mix, has no pod template there: it does not switch.
    """
    system = situation.system
    counter, capacity = CardCounter(system), dict(system.capacity)
    observation, nodes = situation.observation, situation.observation.nodes
    shares = {name: each.share for name, each in standings.items() if each.seen.siblings}
    for seen in observation.servers:
        for each in seen.siblings:
            one = counter.of_replica(each.model, each.accelerator)
            if one is None:
                continue
            left = capacity.get(one.card_type, 0) - one.count * each.replicas
            capacity[one.card_type] = max(left, 0)
            if nodes is not None:
                nodes = less(nodes, one, unplaced_replicas(each), observation.elastic)
    servers = tuple(
        replace(
            each,
            current=replace(
                each.current,
                load=replace(
                    each.current.load, rate_rps=each.current.load.rate_rps * shares[each.name]
                ),
            ),
            backlog_rps=each.backlog_rps * shares[each.name],
        )
        if each.name in shares
        else each
        for each in system.servers
    )
    alone = tuple(
        _kept_here(each) if each.siblings or each.name in claimed else each
        for each in observation.servers
    )
    return replace(
        situation,
        system=replace(system, servers=servers, capacity=capacity),
        observation=replace(observation, servers=alone, nodes=nodes),
    )


def _kept_here(seen: ServerObservation) -> ServerObservation:
    own, rollable = own_share(seen), seen.workload.rollable
    if rollable is None or rollable.switch is not None:
        return own
    return replace(own, workload=replace(seen.workload, rollable=None))


def _why_none(seen: ServerObservation, situation: Situation, accelerators: Collection[str]) -> str:
    """Why a server may have no siblings; "" where it may."""
    workload = seen.workload
    if not situation.system.options.heterogeneous:
        return "the optimizer data asks for one accelerator a server"
    if workload.keep_accelerator:
        return "it keeps its accelerator"
    if workload.accelerator not in accelerators:
        return f"accelerator {workload.accelerator!r} has no template"
    return ""


def _going(standing: Standing, holds: tuple[Hold, ...]) -> tuple[SiblingGoal, ...]:
    if standing.held or not standing.seen.siblings:
        return ()
    blocked = any(
        hold.forbids is not Forbids.INCREASE and hold.reason not in STEADINESS for hold in holds
    )
    why = standing.why or "another mix is better"
    found = going(standing.seen, standing.targets, standing.rest, why, blocked=blocked)
    return found or (() if blocked else renewed(standing.seen, standing.targets))


def _said(problem: Problem, standings: Mapping[str, Standing]) -> Problem:
    """The problem with what siblings carry in words, and replicas that carry in its bounds."""
    remarks, constraints = dict(problem.remarks), dict(problem.constraints)
    for name, each in standings.items():
        if not each.seen.siblings:
            continue
        beside = ", ".join(
            f"{one.ready_replicas} of {one.replicas} of {one.accelerator}"
            for one in each.seen.siblings
        )
        words = (
            f"{1.0 - min(each.share, 1.0):.0%} of its load is carried by siblings: {beside} ready"
        )
        remarks[name] = f"{remarks[name]}; {words}" if name in remarks else words
        bounds = constraints[name]
        if bounds.max_replicas is not None and not bounds.keep:
            # Only those that carry count: else its own would go before what replaces them serves.
            left = bounds.max_replicas - sum(
                min(one.ready_replicas, each.targets[one.accelerator]) for one in each.seen.siblings
            )
            least = max(bounds.min_replicas, 1)
            constraints[name] = replace(bounds, max_replicas=max(left, least))
    return replace(problem, remarks=remarks, constraints=constraints)
