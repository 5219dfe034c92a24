"""A change of accelerator or batch, step by step: new pods serve before an old one goes. Pure.

The state is noted on the Deployment itself, so that a restarted process goes on where the last
one was. Replicas are lowered only in a patch of their own, after the new pods are ready.

The Deployment controller makes at most `maxSurge` new pods before one of them is available. Where
fewer are wanted than run, `minReadySeconds` is set beyond any start, so that no new pod counts as
available: the controller then makes exactly those, takes no old pod away, and waits for the next
step.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.actuator.templates import Templates, moved, why_not_editable
from controlloop.api import labels as keys
from controlloop.api.decision import Decision, Patch, SwitchStep, TemplateChange
from controlloop.api.holds import HoldReason
from controlloop.api.observation import Workload
from controlloop.api.plain_values import to_plain
from controlloop.api.switching import (
    Place,
    Rollable,
    RolloutShape,
    SwitchFailure,
    SwitchRecord,
    SwitchState,
)

BRAKE_S: Final = 7 * 24 * 3600
"""`minReadySeconds` while the new pods start: longer than any switch lasts."""
_MOST_DOUBLINGS: Final = 6
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class SwitchOptions:
    """How switches are made.

    Attributes:
        startup_s: the time that new pods have at least, seconds.
        startup_factor: of the start-up time that the pods that run now showed.
        backoff_s: after a failed switch none is tried for so long; doubled by each further one.

    """

    startup_s: float = 600.0
    startup_factor: float = 3.0
    backoff_s: float = 1800.0


def begin(
    workload: Workload, decision: Decision, templates: Templates, options: SwitchOptions, now: float
) -> Patch | str:
    """The patch that begins a switch, or why there is none.

    Args:
        workload: as it is.
        decision: a switch.
        templates: by accelerator.
        options: how long the new pods have, and so on.
        now: seconds since the epoch.

    """
    before = _place(workload)
    desired = decision.desired
    batch = desired.max_batch or workload.max_batch
    after = Place(desired.accelerator, batch, desired.replicas)
    objection = _objection(workload, before, after, templates, decision.surge, now)
    rollable = workload.rollable
    if objection or rollable is None:
        return objection or "what its pods are made from is not known"
    entering = templates[after.accelerator]
    pod, displaced = moved(
        rollable.template,
        templates[before.accelerator].slots(before),
        entering.slots(after),
        rollable.displaced,
        separate=entering.separate,
    )
    replicas = max(before.replicas, after.replicas)
    # Where not all fit beside the old ones, each wave starts when the last one is ready.
    waves = 1 if decision.surge >= after.replicas else math.ceil(replicas / decision.surge)
    record = SwitchRecord(
        SwitchState.STARTING,
        before,
        after,
        began_at=now,
        deadline_at=now + waves * _allowed_s(workload, options),
        template=rollable.template,
        shape=rollable.shape,
        displaced=rollable.displaced,
    )
    shape = _shape(rollable.shape, min(decision.surge, replicas))
    if decision.surge >= after.replicas and after.replicas < before.replicas:
        shape = replace(
            shape,
            max_surge=str(after.replicas),
            min_ready_s=BRAKE_S,
            progress_deadline_s=BRAKE_S + 1,
        )
    labels, annotations = told(said_of(after))
    annotations |= {
        keys.SWITCH: _text(record),
        keys.DISPLACED: json.dumps(displaced, sort_keys=True) if displaced else None,
    }
    change = TemplateChange(SwitchStep.BEGIN, annotations, rollable.template, pod, shape)
    return _patch(workload, replicas, labels, decision.reason, change)


def is_switching(workload: Workload) -> bool:
    """Whether a switch of it is under way."""
    return workload.rollable is not None and workload.rollable.switch is not None


def advance(workload: Workload, options: SwitchOptions, now: float) -> Patch | None:
    """The next patch of the switch under way; None while there is nothing to do but wait."""
    rollable = workload.rollable
    record = None if rollable is None else rollable.switch
    if rollable is None or record is None or _is_paused(workload, rollable):
        return None
    if record.state is SwitchState.STARTING:
        return _starting(workload, rollable, record, now)
    if record.state is SwitchState.LEAVING:
        strangers = any(pod.place != str(record.after) for pod in workload.pods)
        if not rollable.settled or strangers:
            return None
        return _end(workload, rollable, record, f"{record.after} runs alone")
    return _undoing(workload, rollable, record, options, now)


def _starting(
    workload: Workload, rollable: Rollable, record: SwitchRecord, now: float
) -> Patch | None:
    after = record.after
    said = rollable.template.fields.get(f"annotation/{keys.ALLOCATION}")
    if said != json.dumps(str(after)):
        reason = f"somebody else changed its template: the switch to {after} ends as it is"
        return _end(workload, rollable, record, reason)
    ready = _ready(workload, after)
    enough = rollable.seen and ready >= after.replicas
    braked = rollable.shape.min_ready_s == BRAKE_S
    if enough and (braked or rollable.settled):
        if workload.replicas <= after.replicas:
            return _end(workload, rollable, record, f"{ready} replicas of {after} serve")
        reason = f"{ready} replicas of {after} serve: those of {record.before} go"
        # A surge that covers every pod there is keeps the controller from scaling the new ones
        # down in proportion with the old ones.
        shape = _shape(record.shape, max(workload.replicas, len(workload.pods)))
        leaving = replace(record, state=SwitchState.LEAVING)
        change = TemplateChange(
            SwitchStep.LEAVE, {keys.SWITCH: _text(leaving)}, rollable.template, shape=shape
        )
        return _patch(workload, after.replicas, {}, reason, change)
    if now < record.deadline_at:
        return None
    allowed_s = record.deadline_at - record.began_at
    reason = (
        f"{ready} of {after.replicas} replicas of {after} were ready after {allowed_s:.0f} s:"
        f" back to {record.before}"
    )
    labels, annotations = told(said_of(record.before))
    undoing = replace(record, state=SwitchState.UNDOING)
    annotations |= {
        keys.SWITCH: _text(undoing),
        keys.DISPLACED: json.dumps(dict(record.displaced)) if record.displaced else None,
    }
    shape = _shape(record.shape, max(workload.replicas, 1))
    change = TemplateChange(SwitchStep.UNDO, annotations, rollable.template, record.template, shape)
    replicas = max(workload.replicas, record.before.replicas)
    return _patch(workload, replicas, labels, reason, change)


def _undoing(
    workload: Workload,
    rollable: Rollable,
    record: SwitchRecord,
    options: SwitchOptions,
    now: float,
) -> Patch | None:
    failed = str(record.after)
    left = any(pod.place == failed for pod in workload.pods)
    old = sum(pod.ready and not pod.terminating and pod.place != failed for pod in workload.pods)
    if not rollable.seen or (left and old < record.before.replicas):
        return None
    times = 1 if rollable.failure is None else rollable.failure.times + 1
    backoff_s = options.backoff_s * 2.0 ** min(times - 1, _MOST_DOUBLINGS)
    detail = f"pods of {failed} did not become ready in time, {times} times in a row"
    failure = SwitchFailure(record.after, times, now + backoff_s, detail)
    annotations = {keys.SWITCH: None, keys.SWITCH_FAILED: _text(failure)}
    change = TemplateChange(SwitchStep.UNDONE, annotations, rollable.template, shape=record.shape)
    reason = f"{record.before} runs again; no other switch is tried for {backoff_s:.0f} s"
    return _patch(workload, record.before.replicas, {}, reason, change)


def _end(workload: Workload, rollable: Rollable, record: SwitchRecord, reason: str) -> Patch:
    annotations = {keys.SWITCH: None, keys.SWITCH_FAILED: None}
    change = TemplateChange(SwitchStep.END, annotations, rollable.template, shape=record.shape)
    return _patch(workload, workload.replicas, {}, reason, change)


def _objection(
    workload: Workload, before: Place, after: Place, templates: Templates, surge: int, now: float
) -> str:
    """The first thing that speaks against a switch; "" where nothing does."""
    for place in (before, after):
        if place.accelerator not in templates:
            return f"accelerator {place.accelerator!r} has no template; nothing of it is done"
    rollable = workload.rollable
    if rollable is None or workload.ref.kind != "Deployment":
        return f"a {workload.ref.kind} changes its replicas only"
    found = []
    if not rollable.rolling:
        found.append("its strategy is not RollingUpdate: all pods would stop before one starts")
    if not rollable.settled:
        found.append("it is paused or in mid-rollout")
    if rollable.failure is not None and now < rollable.failure.until:
        left_s = rollable.failure.until - now
        found.append(f"{rollable.failure.detail}; none is tried for {left_s:.0f} s")
    if after.replicas < 1 or surge < 1:
        found.append("no card is free for a new replica beside the old ones")
    return "; ".join(found) or why_not_editable(rollable.template)


def _is_paused(workload: Workload, rollable: Rollable) -> bool:
    return rollable.paused or any(hold.reason is HoldReason.PAUSED for hold in workload.holds)


def _place(workload: Workload) -> Place:
    return Place(workload.accelerator, workload.max_batch, workload.replicas)


def _ready(workload: Workload, place: Place) -> int:
    wanted = str(place)
    return sum(pod.ready and not pod.terminating and pod.place == wanted for pod in workload.pods)


def _shape(original: RolloutShape, surge: int) -> RolloutShape:
    """The original shape, but no pod unavailable and a surge of so many."""
    return replace(original, max_surge=str(max(surge, 1)), max_unavailable="0")


def _allowed_s(workload: Workload, options: SwitchOptions) -> float:
    """The start-up time that its pods showed, times a factor; at least as the settings say."""
    took = [
        pod.ready_since - pod.started_at
        for pod in workload.pods
        if pod.ready_since is not None and pod.started_at is not None and not pod.restarts
    ]
    shown_s = statistics.median(took) if took else 0.0
    return max(options.startup_s, shown_s * options.startup_factor)


def told(values: Mapping[str, str]) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Labels and annotations that say these values: annotated is what no label can hold.

    Each key is in both, with None in the one that does not say it.
    """
    labels: dict[str, str | None] = {}
    annotations: dict[str, str | None] = {}
    for key, value in values.items():
        fits = _LABEL_VALUE.fullmatch(value) is not None
        labels[key] = value if fits else None
        annotations[key] = None if fits else value
    return labels, annotations


def said_of(place: Place) -> dict[str, str]:
    """What a workload that runs there says, by key."""
    said = {keys.ACCELERATOR: place.accelerator}
    if place.max_batch:
        said[keys.MAX_BATCH] = str(place.max_batch)
    return said


def _text(value: object) -> str:
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"))


def _patch(
    workload: Workload,
    replicas: int,
    labels: Mapping[str, str | None],
    reason: str,
    change: TemplateChange,
) -> Patch:
    return Patch(
        ref=workload.ref,
        server=workload.server,
        replicas_before=workload.replicas,
        replicas=replicas,
        labels=labels,
        reason=reason,
        rests_on=workload.labels,
        change=change,
    )
