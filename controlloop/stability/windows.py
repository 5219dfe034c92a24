"""The policy `windows`: quick to add, slow to take away, and able to say which of both and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Decisions, Problem, ServerConstraint, Situation
from controlloop.api.holds import Forbids, Hold
from controlloop.api.observation import ServerObservation
from controlloop.api.placing import room_of
from controlloop.api.quotas import quotas_of
from controlloop.api.solution import Solution
from controlloop.api.system import LOWEST_PRIORITY, System
from controlloop.protocols import StateStore
from controlloop.stability.bounds import Bounds, warming_up
from controlloop.stability.constraints import ReplicaBounds, constraint_of
from controlloop.stability.deciding import decide_all
from controlloop.stability.fitting import within_capacity
from controlloop.stability.giving_way import Claim, who_gives_way
from controlloop.stability.node_fit import within_nodes
from controlloop.stability.options import WindowOptions
from controlloop.stability.overload import kept_up, overload
from controlloop.stability.quota_fit import within_quotas
from controlloop.stability.steadiness import Ask, steadiness_holds
from controlloop.stability.track import Track, look
from controlloop.stability.window_state import load_tracks, save_tracks

NeedsOf = Callable[[System], Mapping[str, float]]
"""Replicas that each server's load needs of what it runs on; absent where nothing tells."""

UNLIMITED: Final = "unlimited"
"""The solver for which there are cards without end."""


@dataclass(frozen=True, slots=True)
class _View:
    """One server in this cycle.

    `firm` holds come from evidence, description and overload; `soft` ones from steadiness alone,
    and give way where cards are short.
    """

    seen: ServerObservation
    track: Track
    asked: int
    firm: tuple[Hold, ...]
    soft: tuple[Hold, ...]


class WindowsPolicy:
    """Bounds the optimizer by what was needed within windows, and by what is still under way.

    Everything is expressed as bounds on the optimizer, so that the joint answer fits the cards;
    the decisions are checked against them once more.

    Args:
        bounds: replicas of servers that do not say otherwise, and the window of a new process.
        options: all else.
        needs_of: sizes the loads for what runs.
        store: keeps what is remembered over restarts; None keeps nothing.

    """

    def __init__(
        self,
        bounds: Bounds,
        options: WindowOptions,
        needs_of: NeedsOf,
        store: StateStore | None = None,
    ) -> None:
        self._bounds = bounds
        self._options = options
        self._needs_of = needs_of
        self._store = store
        self._tracks: Mapping[str, Track] | None = None
        self._notes: tuple[str, ...] = ()

    def shape(self, situation: Situation) -> Problem:
        """Bounds for each server, with the holds they come from."""
        system, now = situation.system, situation.now
        self._notes = ()
        needs = self._needs_of(system)
        before = self._known_tracks()
        warming = warming_up(now, situation.since, self._options.down.window_s)
        views = [
            self._view(
                seen,
                before.get(seen.name),
                needs.get(seen.name),
                situation.holds[seen.name] + warming,
                now,
            )
            for seen in situation.observation.servers
        ]
        self._tracks = {view.seen.name: view.track for view in views}
        giving = self._giving_way(views, system)
        holds = {
            view.seen.name: view.firm if view.seen.name in giving else view.firm + view.soft
            for view in views
        }
        return Problem(
            system,
            {view.seen.name: self._constraint(view, holds[view.seen.name]) for view in views},
            holds,
            remarks=_remarks(views, giving),
            room=room_of(situation.observation),
            quotas=quotas_of(situation.observation),
        )

    def steady(self, problem: Problem, solution: Solution) -> Decisions:
        """One decision for each server of the problem, which together fit the cards."""
        decisions = decide_all(problem, solution)
        if solution.solver != UNLIMITED:
            decisions = within_capacity(decisions, problem.system)
            decisions = within_nodes(decisions, problem)
        decisions = within_quotas(decisions, problem)
        if self._store is not None and self._tracks is not None:
            self._notes += save_tracks(self._store, self._tracks)
        return Decisions(decisions, solution, self._notes)

    def _known_tracks(self) -> Mapping[str, Track]:
        if self._tracks is None:
            self._tracks = {}
            if self._store is not None:
                self._tracks, self._notes = load_tracks(self._store)
        return self._tracks

    def _view(
        self,
        seen: ServerObservation,
        before: Track | None,
        need: float | None,
        firm: tuple[Hold, ...],
        now: float,
    ) -> _View:
        workload, options = seen.workload, self._options
        if any(hold.forbids is Forbids.CHANGE for hold in firm):
            # What is not known well enough to act on is not known well enough to remember.
            need = None
        least, most = self._replica_bounds.of(workload)
        why = ""
        if need is not None and workload.replicas > 0:
            why = overload(workload, seen.signals, need, options.panic)
            if why and need <= workload.replicas:
                hold = kept_up(workload, why, most, options.panic)
                firm, need = (*firm, hold), float(hold.limit or workload.replicas)
        track = look(before, workload, need, now, options.memory_s, options.down.window_s)
        if need is None or workload.replicas <= 0:
            return _View(seen, track, workload.replicas, firm, ())
        asked = max(math.ceil(need), least)
        asked = asked if most is None else max(min(asked, most), least)
        ask = Ask(workload, track, need, asked, now)
        soft = steadiness_holds(ask, options, panic=bool(why))
        return _View(seen, track, asked, firm, soft)

    @property
    def _replica_bounds(self) -> ReplicaBounds:
        return ReplicaBounds(self._bounds.min_replicas, self._bounds.max_replicas)

    def _constraint(self, view: _View, holds: tuple[Hold, ...]) -> ServerConstraint:
        return constraint_of(view.seen.workload, self._replica_bounds, holds)

    def _giving_way(self, views: list[_View], system: System) -> Mapping[str, tuple[str, ...]]:
        priorities = {each.name: each.priority for each in system.classes}
        counter = CardCounter(system)
        claims = []
        for view in views:
            workload = view.seen.workload
            card = counter.of_replica(workload.model, workload.accelerator)
            if card is None:
                continue
            firm = self._constraint(view, view.firm)
            both = self._constraint(view, view.firm + view.soft)
            claims.append(
                Claim(
                    server=view.seen.name,
                    priority=priorities.get(workload.service_class, LOWEST_PRIORITY),
                    card_type=card.card_type,
                    cards=card.count,
                    current=workload.replicas,
                    needed=_within(view.asked, firm),
                    kept=_within(view.asked, both),
                )
            )
        return who_gives_way(claims, system.capacity)


def _within(asked: int, bounds: ServerConstraint) -> int:
    most = asked if bounds.max_replicas is None else min(asked, bounds.max_replicas)
    return max(most, bounds.min_replicas)


def _remarks(views: list[_View], giving: Mapping[str, tuple[str, ...]]) -> Mapping[str, str]:
    """What the decision about a server is to say besides."""
    found = {}
    for view in views:
        name = view.seen.name
        if name in giving:
            reasons = ", ".join(dict.fromkeys(str(hold.reason) for hold in view.soft))
            found[name] = f"cards are short: {reasons} gives way to {', '.join(giving[name])}"
    return found
