"""From what is decided of a server's siblings to patches: made, scaled, removed. Pure.

A sibling is made from its primary's pod template, moved to its accelerator by the templates as a
switch would move it. It is never lowered to nothing and removed at once: what goes has no pods.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from controlloop.actuator.switching import said_of, told
from controlloop.actuator.templates import Templates, moved, why_not_editable
from controlloop.api import labels as keys
from controlloop.api.decision import Birth, Decision, Patch, Refusal, SiblingGoal
from controlloop.api.holds import HoldReason
from controlloop.api.observation import ServerObservation, Workload, WorkloadRef
from controlloop.api.switching import Place

LONGEST_NAME: Final = 63
"""Of a label's value: its pods carry the sibling's name."""
_DIGEST: Final = 6
_COPIED: Final = (keys.NAME, keys.MODEL, keys.CLASS, keys.CONTAINER)


def sibling_steps(
    decision: Decision, seen: ServerObservation, templates: Templates
) -> list[Patch | Refusal]:
    """What becomes of each sibling that is to change, in the order decided; and why none does."""
    primary = seen.workload
    said = {each.ref: each.labels for each in seen.siblings}
    refusals = [
        Refusal(decision.server, f"{hold.reason}: {hold.detail}", primary.ref, (str(hold.reason),))
        for hold in decision.holds
        if hold.reason in (HoldReason.SIBLING_SELECTOR, HoldReason.SIBLING_FAILED)
    ]
    return refusals + [
        _step(decision.server, goal, primary, templates, said.get(goal.ref) if goal.ref else None)
        for goal in decision.siblings
    ]


def sibling_name(primary: str, accelerator: str) -> str:
    """The name of a Deployment's sibling on an accelerator: always the same, and no other's."""
    digest = hashlib.sha256(f"{primary}/{accelerator}".encode()).hexdigest()[:_DIGEST]
    said = re.sub(r"[^a-z0-9]+", "-", accelerator.lower()).strip("-")
    ending = f"-{said[:20].strip('-')}-{digest}" if said else f"-{digest}"
    return primary[: LONGEST_NAME - len(ending)].rstrip("-.") + ending


def _step(
    server: str,
    goal: SiblingGoal,
    primary: Workload,
    templates: Templates,
    said: Mapping[str, str] | None,
) -> Patch | Refusal:
    if goal.ref is None or goal.renewed:
        return _made(server, goal, primary, templates)
    return Patch(
        ref=goal.ref,
        server=server,
        replicas_before=goal.before,
        replicas=goal.replicas,
        labels={},
        reason=goal.reason,
        rests_on=said,
        primary=primary.ref if goal.gone else None,
    )


def _made(
    server: str, goal: SiblingGoal, primary: Workload, templates: Templates
) -> Patch | Refusal:
    """The patch that makes a sibling, or its pods anew, or why there is none."""
    home = Place(primary.accelerator, primary.max_batch, primary.replicas)
    there = Place(goal.accelerator, goal.max_batch or primary.max_batch, goal.replicas)
    rollable = primary.rollable
    if rollable is None:
        return Refusal(server, f"a {primary.ref.kind} has no siblings", primary.ref)
    if rollable.clash:
        kinds = (str(HoldReason.SIBLING_SELECTOR),)
        return Refusal(server, f"no sibling: {rollable.clash}", primary.ref, kinds)
    objection = why_not_editable(rollable.template)
    for place in (home, there):
        if place.accelerator not in templates:
            objection = f"accelerator {place.accelerator!r} has no template"
    if objection:
        return Refusal(server, f"no sibling on {goal.accelerator}: {objection}", primary.ref)
    entering = templates[there.accelerator]
    # A sibling stays on its accelerator: what its template replaces is never put back.
    pod, _ = moved(
        rollable.template,
        templates[home.accelerator].slots(home),
        entering.slots(there),
        rollable.displaced,
        separate=entering.separate,
    )
    labels, annotations = _description(primary, there)
    name = sibling_name(primary.ref.name, goal.accelerator)
    return Patch(
        ref=goal.ref or WorkloadRef(primary.ref.namespace, name),
        server=server,
        replicas_before=goal.before,
        replicas=goal.replicas,
        labels=labels if goal.ref is None else {},
        reason=goal.reason,
        birth=Birth(rollable.template, pod, annotations, rollable.digest),
        primary=primary.ref,
    )


def _description(primary: Workload, there: Place) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations of a sibling: what it serves, as its primary, and what runs it."""
    said = primary.labels or {}
    values = {key: said[key] for key in _COPIED if key in said}
    labels, annotations = told(values | {keys.MANAGED: "true"} | said_of(there))
    given = {key: value for key, value in labels.items() if value is not None}
    return given, {key: value for key, value in annotations.items() if value is not None}
