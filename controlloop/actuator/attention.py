"""What others set is noticed between two looks, and what we wrote is remembered for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from controlloop.actuator.intervention_state import load_standings, save_standings
from controlloop.actuator.interventions import (
    InterventionOptions,
    Standing,
    hold_of,
    intervention_of,
    look,
    wrote,
)
from controlloop.api.decision import Decisions, Outcome, PatchStatus, Plan
from controlloop.api.interventions import InterventionKind
from controlloop.api.observation import Observation, ServerObservation, Workload
from controlloop.clock import Deadline
from controlloop.protocols import Actuator, Sensor, StateStore


class Attention:
    """Remembers what was seen and written of each workload, from cycle to cycle.

    Args:
        options: how others are left alone.
        store: keeps what is remembered over restarts; None keeps nothing.

    """

    def __init__(
        self, options: InterventionOptions | None = None, store: StateStore | None = None
    ) -> None:
        self._options = options or InterventionOptions()
        self._store = store
        self._standings: Mapping[str, Standing] | None = None
        self._now = 0.0
        self._told: dict[str, tuple[InterventionKind, float]] = {}
        self._notes: tuple[str, ...] = ()
        self._saved: Mapping[str, Standing] | None = None
        self._log = structlog.get_logger(__name__)

    def look(self, seen: Observation) -> Observation:
        """The observation with what is to be left alone, as holds."""
        notes = self._notes
        if self._standings is None:
            self._standings = {}
            if self._store is not None:
                self._standings, loaded = load_standings(self._store)
                notes += loaded
                self._saved = self._standings
        self._now, before, options = seen.time, self._standings, self._options
        self._standings = {
            each.ref.uid: look(before.get(each.ref.uid), each, seen.time, options)
            for server in seen.servers
            for each in (server.workload, *server.siblings)
        }
        servers = tuple(self._held_all(each) for each in seen.servers)
        self._told = {key: it for key, it in self._told.items() if key in self._standings}
        return replace(seen, servers=servers, notes=seen.notes + notes)

    def wrote(self, outcome: Outcome) -> None:
        """Remember what was carried out of a plan, and keep all that is remembered."""
        standings = dict(self._standings or {})
        for each in outcome.patches:
            patch = each.patch
            standing = standings.get(patch.ref.uid)
            changed = patch.replicas != patch.replicas_before
            if each.status is PatchStatus.APPLIED and standing is not None and changed:
                before, after = patch.replicas_before, patch.replicas
                standings[patch.ref.uid] = wrote(standing, before, after, self._now)
        self._standings = standings
        if self._store is not None and standings != self._saved:
            self._notes = save_standings(self._store, standings)
            self._saved = None if self._notes else standings

    def _held_all(self, seen: ServerObservation) -> ServerObservation:
        """Whatever of a server somebody else set, all of it is left alone."""
        for each in (*seen.siblings, seen.workload):
            seen = self._held(seen, each)
        return seen

    def _held(self, seen: ServerObservation, workload: Workload) -> ServerObservation:
        uid = workload.ref.uid
        found = intervention_of((self._standings or {})[uid], self._now, self._options)
        if found is None:
            if self._told.pop(uid, None) is not None:
                self._log.info("intervention-over", server=seen.name)
            return seen
        if self._told.get(uid) != (found.kind, found.since):
            self._told[uid] = found.kind, found.since
            self._log.warning(
                "intervention",
                server=seen.name,
                workload=str(workload.ref),
                kind=str(found.kind),
                manager=found.manager,
                detail=found.detail,
            )
        return replace(seen, holds=(*seen.holds, hold_of(found)), intervention=found)


class AttentiveSensor:
    """A sensor whose observations say what others set."""

    def __init__(self, sensor: Sensor, attention: Attention) -> None:
        self._sensor = sensor
        self._attention = attention

    def observe(self, now: float, deadline: Deadline) -> Observation:
        """Look once."""
        return self._attention.look(self._sensor.observe(now, deadline))


class AttentiveActuator:
    """An actuator of which is remembered what it carried out."""

    def __init__(self, actuator: Actuator, attention: Attention) -> None:
        self._actuator = actuator
        self._attention = attention

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:
        """The pure difference between what is decided and what is."""
        return self._actuator.plan(decisions, observation)

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:
        """Send the plan."""
        outcome = self._actuator.apply(plan, deadline)
        self._attention.wrote(outcome)
        return outcome
