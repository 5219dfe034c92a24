"""Sends a plan: increases before decreases, each write only while we are the writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from typing import Final

import structlog

from controlloop.actuator.conditions import condition_changes
from controlloop.actuator.diff import Means, plan, revise
from controlloop.actuator.events import News, Told
from controlloop.actuator.maintenance import MaintenanceSwitch
from controlloop.actuator.options import ActuatorOptions, Mode
from controlloop.actuator.templates import Templates
from controlloop.api import labels as keys
from controlloop.api.conditions import ConditionChange
from controlloop.api.decision import Decisions, Outcome, Patch, PatchOutcome, PatchStatus, Plan
from controlloop.api.observation import Observation
from controlloop.clock import Deadline
from controlloop.errors import (
    ConflictError,
    ControlLoopError,
    DeadlineError,
    NotLeaderError,
    UnavailableError,
)
from controlloop.protocols import Cluster, WriteGuard

GROWN: Final = (PatchStatus.APPLIED, PatchStatus.UNNECESSARY, PatchStatus.DRY_RUN)


class ClusterActuator:
    """Implements `protocols.Actuator` on a cluster.

    Increases are sent first, and decreases once all of those have ended. Whatever cuts a plan
    short then leaves a fleet with too much rather than too little: what was to give up cards
    for a server still has them if that server's growth could not be made.

    Args:
        cluster: where to send it.
        guard: says whether this process may write.
        options: how a plan is sent.
        templates: those in force now; None is those of the options.
        maintenance: the switch that stops all writes; None has none.

    """

    def __init__(
        self,
        cluster: Cluster,
        guard: WriteGuard,
        options: ActuatorOptions | None = None,
        templates: Callable[[], Templates] | None = None,
        maintenance: MaintenanceSwitch | None = None,
    ) -> None:
        self._maintenance = maintenance or MaintenanceSwitch()
        self._cluster = cluster
        self._guard = guard
        self._options = options or ActuatorOptions()
        self._templates = templates or (lambda: self._options.templates)
        self._told = Told()
        self._log = structlog.get_logger(__name__)

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:
        """The pure difference between what is decided and what is: no patch, no change."""
        options = self._options
        means = Means(self._templates(), options.switch, observation.time)
        conditions = condition_changes(observation) if options.conditions else ()
        return replace(plan(decisions, observation, means), conditions=conditions)

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:
        """Send the plan; how each patch ended is in the outcome, in the plan's order."""
        reason = self._maintenance.reason()
        if reason:
            detail = f"maintenance: {reason}"
            kept = (PatchOutcome(each, PatchStatus.NOT_SENT, detail) for each in plan.patches)
            return Outcome(tuple(kept), maintenance=reason)
        if self._options.mode is Mode.DRY_RUN:
            return Outcome(tuple(PatchOutcome(each, PatchStatus.DRY_RUN) for each in plan.patches))
        workers = self._options.concurrency
        with ThreadPoolExecutor(workers, thread_name_prefix="actuator") as pool:
            ended: dict[int, PatchOutcome] = {}
            for phase in _phases(plan):
                grown = {one.patch.server for one in ended.values() if one.status in GROWN}
                send = partial(self._send, deadline=deadline, grown=grown)
                sent = pool.map(send, [plan.patches[at] for at in phase])
                ended.update(zip(phase, sent, strict=True))
            outcome = Outcome(tuple(ended[at] for at in range(len(plan.patches))))
            if self._options.mode is Mode.APPLY:
                list(pool.map(partial(self._say, deadline=deadline), _unpatched(plan)))
                if self._options.events:
                    news = self._told.news(plan, outcome)
                    list(pool.map(lambda each: self._record(each, deadline), news))
        return outcome

    def _send(self, patch: Patch, deadline: Deadline, grown: Collection[str]) -> PatchOutcome:
        """One patch to its end, also a bad one. Never raises an error of ours."""
        in_vain = [name for name in patch.makes_room_for if name not in grown]
        if in_vain:
            detail = f"it makes room for {', '.join(in_vain)}, whose growth was not made"
            return PatchOutcome(patch, PatchStatus.NOT_SENT, detail)
        try:
            return self._write(patch, deadline)
        except ConflictError:
            return self._send_again(patch, deadline)
        except ControlLoopError as error:
            return _ended_badly(patch, error)

    def _send_again(self, patch: Patch, deadline: Deadline) -> PatchOutcome:
        """The workload changed: read it again, compare again, once."""
        if patch.primary is not None:
            detail = "it, or its primary, is not as it was seen; decided anew next"
            return PatchOutcome(patch, PatchStatus.NOT_SENT, detail, ConflictError.__name__)
        try:
            wanted_s = self._options.read_timeout_s
            timeout_s = deadline.timeout_s(wanted_s, f"reading {patch.ref} again")
            fresh = self._cluster.workload(patch.ref, timeout_s)
            if patch.change is None and fresh.replicas == patch.replicas:
                detail = "it has these replicas by now"
                return PatchOutcome(patch, PatchStatus.UNNECESSARY, detail)
            revised = revise(patch, fresh)
            if isinstance(revised, str):
                detail = f"{revised}; decided anew next"
                return PatchOutcome(patch, PatchStatus.NOT_SENT, detail, ConflictError.__name__)
            return self._write(revised, deadline)
        except ControlLoopError as error:
            return _ended_badly(patch, error)

    def _write(self, patch: Patch, deadline: Deadline) -> PatchOutcome:
        dry_run = self._options.mode is Mode.SERVER_DRY_RUN
        wanted_s = self._options.write_timeout_s
        timeout_s = deadline.timeout_s(wanted_s, f"patching {patch.ref}")
        if not dry_run:
            self._require_lease(timeout_s)
        self._cluster.patch(patch, timeout_s, dry_run=dry_run)
        return PatchOutcome(patch, PatchStatus.DRY_RUN if dry_run else PatchStatus.APPLIED)

    def _require_lease(self, timeout_s: float) -> None:
        remaining_s = self._guard.remaining_s()
        needed_s = timeout_s + self._options.lease_margin_s
        if remaining_s <= needed_s:
            raise NotLeaderError(
                f"the lease is ours for {remaining_s:.1f} s more, a write needs {needed_s:.1f} s"
            )

    def _say(self, change: ConditionChange, deadline: Deadline) -> None:
        """Best effort: what cannot be written now is still to be written in the next cycle."""
        facts = {"server": change.server, "workload": str(change.ref)}
        condition = change.condition
        try:
            wanted_s = self._options.write_timeout_s
            timeout_s = deadline.timeout_s(wanted_s, f"a condition on {change.ref}")
            self._require_lease(timeout_s)
            text = None if condition is None else json.dumps(asdict(condition))
            self._cluster.annotate(change.ref, {keys.CONDITION: text}, timeout_s)
        except ControlLoopError as error:
            self._log.warning("condition-not-written", **facts, error=str(error))
            return
        said = "removed" if condition is None else f"{condition.reason}: {condition.message}"
        self._log.info("condition", **facts, said=said)

    def _record(self, news: News, deadline: Deadline) -> None:
        """Best effort: an event that cannot be written changes nothing."""
        try:
            wanted_s = self._options.write_timeout_s
            timeout_s = deadline.timeout_s(wanted_s, f"an event on {news.ref}")
            self._require_lease(timeout_s)
            self._cluster.record(news.ref, news.reason, news.message, timeout_s)
        except ControlLoopError as error:
            self._log.warning("event-not-written", workload=str(news.ref), error=str(error))


def _unpatched(plan: Plan) -> list[ConditionChange]:
    """Those of workloads at the version that was read: of others the next cycle reads a newer."""
    patched = {patch.ref for patch in plan.patches}
    return [change for change in plan.conditions if change.ref not in patched]


def _phases(plan: Plan) -> tuple[list[int], list[int]]:
    """Positions of the patches that go first, and of those that wait for them."""
    lowers = [patch.replicas < patch.replicas_before or patch.removes for patch in plan.patches]
    positions = range(len(lowers))
    return [at for at in positions if not lowers[at]], [at for at in positions if lowers[at]]


def _ended_badly(patch: Patch, error: ControlLoopError) -> PatchOutcome:
    kind = type(error).__name__
    if isinstance(error, NotLeaderError | DeadlineError):
        return PatchOutcome(patch, PatchStatus.NOT_SENT, str(error), kind)
    unsure = "; whether it was applied shows in the next cycle"
    detail = f"{error}{unsure if isinstance(error, UnavailableError) else ''}"
    return PatchOutcome(patch, PatchStatus.FAILED, detail, kind)
