"""The condition that a workload carries while another controller scales it. Pure.

A Deployment's status is its own controller's, so the condition is an annotation. It is there only
while it has something to say: a workload without it is managed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controlloop.api import labels as keys
from controlloop.api.conditions import FALSE, MANAGED, Condition, ConditionChange
from controlloop.api.holds import HoldReason
from controlloop.api.json_text import parse_json
from controlloop.api.observation import Observation, Workload
from controlloop.api.plain_values import from_plain
from controlloop.clock import timestamp
from controlloop.errors import InputError

DEPLOYMENT = "Deployment"
"""Of other kinds nothing but the scale may be written."""


def condition_changes(seen: Observation) -> tuple[ConditionChange, ...]:
    """The conditions that do not say what was seen, in the order of the servers."""
    return tuple(_changes(seen))


def _changes(seen: Observation) -> Iterator[ConditionChange]:
    each_with_name = (
        (server.name, workload)
        for server in seen.servers
        for workload in (server.workload, *server.siblings)
    )
    for name, workload in each_with_name:
        if workload.ref.kind != DEPLOYMENT:
            continue
        before, wanted = _carried(workload), _wanted(workload, seen.time)
        if before is not None and wanted is not None and before.status == wanted.status:
            wanted = replace(wanted, lastTransitionTime=before.lastTransitionTime)
        if before != wanted:
            yield ConditionChange(workload.ref, name, wanted)


def _wanted(workload: Workload, now: float) -> Condition | None:
    """What the workload is to carry."""
    found = [hold for hold in workload.holds if hold.reason is HoldReason.OTHER_SCALER]
    if not found:
        return None
    message = "; ".join(hold.detail for hold in found)
    reason = str(HoldReason.OTHER_SCALER)
    return Condition(MANAGED, FALSE, reason, message, timestamp(now))


def _carried(workload: Workload) -> Condition | None:
    """What it carries; None where that is nothing, or nothing that the loop wrote."""
    text = (workload.labels or {}).get(keys.CONDITION, "")
    try:
        return from_plain(Condition, parse_json(text)) if text else None
    except InputError:
        return None
