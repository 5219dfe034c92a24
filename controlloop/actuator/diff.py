"""The pure difference between what is decided and what is: a plan, empty when nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controlloop.actuator.siblings import sibling_steps
from controlloop.actuator.switching import SwitchOptions, advance, begin, is_switching
from controlloop.actuator.templates import Templates
from controlloop.api import labels as keys
from controlloop.api.decision import Action, Decision, Decisions, Patch, Plan, Refusal
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload

OWNER_CAN_MEND: Final = frozenset(
    {
        HoldReason.OTHER_SCALER,
        HoldReason.LABELS_INVALID,
        HoldReason.DUPLICATE_NAME,
        HoldReason.SIBLING_ALONE,
        HoldReason.UNKNOWN_MODEL,
        HoldReason.UNKNOWN_CLASS,
        HoldReason.UNKNOWN_ACCELERATOR,
    }
)
"""Holds that last until the workload's owner does something: the workload itself must say so."""

WORTH_TELLING: Final = OWNER_CAN_MEND | {
    HoldReason.PODS_REFUSED,
    HoldReason.PODS_NOT_READY,
    HoldReason.MANUAL_CHANGE,
    HoldReason.REVERTED,
    HoldReason.NO_CAPACITY,
    HoldReason.NO_NODE_FITS,
    HoldReason.UNPLACED,
    HoldReason.GROWTH_NOT_READY,
    HoldReason.QUOTA,
    HoldReason.NO_CANDIDATE,
}
"""Holds that are refusals of what the workload needs: who looks at it is told why."""

PASSING: Final = frozenset(
    {keys.LOAD_RPM, keys.LOAD_INPUT_TOKENS, keys.LOAD_OUTPUT_TOKENS, keys.CONDITION}
)
"""A load is a measurement, which may change at any time; the condition is our own."""


@dataclass(frozen=True, slots=True)
class Means:
    """By what another accelerator or batch is made real, and at what time.

    Without templates a decision for one is refused whole: labels must say what runs.
    """

    templates: Templates = field(default_factory=dict)
    switch: SwitchOptions = field(default_factory=SwitchOptions)
    now: float = 0.0


def plan(decisions: Decisions, observation: Observation, means: Means | None = None) -> Plan:
    """Patches and refusals in order of server name.

    A server with a switch under way gets its next step, whatever is decided of it.
    """
    means = means or Means()
    seen: dict[str, list[ServerObservation]] = {}
    for server in observation.servers:
        seen.setdefault(server.name, []).append(server)
    patches: list[Patch] = []
    refusals: list[Refusal] = []
    for decision in sorted(decisions.decisions, key=lambda each: each.server):
        for step in _steps(decision, seen.get(decision.server, []), means):
            if isinstance(step, Patch):
                patches.append(step)
            else:
                refusals.append(step)
    return Plan(tuple(patches), tuple(dict.fromkeys(refusals)))


def revise(patch: Patch, fresh: Workload) -> Patch | str:
    """The patch once more, after the workload changed under it; or why it is not sent.

    A decrease is repeated only where nothing but the workload's status changed, an increase
    also where somebody added replicas, but fewer. Whoever else set replicas is not overruled
    on older facts: the next cycle decides on the new ones.

    Args:
        patch: what was to be sent.
        fresh: the workload as it is now.

    """
    if patch.change is not None:
        return "it changed meanwhile, and a step of a switch rests on all of it"
    if patch.rests_on is not None and _lasting(fresh.labels or {}) != _lasting(patch.rests_on):
        return "its labels or annotations changed since they were read"
    direction = Forbids.INCREASE if patch.replicas > patch.replicas_before else Forbids.DECREASE
    against = _against(fresh.holds, direction, fresh.replicas, patch.replicas)
    if against:
        return f"meanwhile {_named(against)}"
    still_adds = patch.replicas_before <= fresh.replicas < patch.replicas
    if fresh.replicas != patch.replicas_before and not still_adds:
        return f"its replicas were set to {fresh.replicas} since {patch.replicas_before} were read"
    return replace(patch, ref=fresh.ref, replicas_before=fresh.replicas)


def _lasting(description: Mapping[str, str]) -> dict[str, str]:
    """What describes the server."""
    return {key: value for key, value in description.items() if key not in PASSING}


def _steps(
    decision: Decision, seen: list[ServerObservation], means: Means
) -> list[Patch | Refusal]:
    """What becomes of one decision: usually one patch, or nothing."""
    steps = _own_steps(decision, seen, means)
    if len(seen) == 1:
        steps += sibling_steps(decision, seen[0], means.templates)
    return steps


def _own_steps(
    decision: Decision, seen: list[ServerObservation], means: Means
) -> list[Patch | Refusal]:
    if len(seen) == 1 and is_switching(seen[0].workload):
        step = advance(seen[0].workload, means.switch, means.now)
        return [] if step is None else [step]
    if decision.action is Action.KEEP:
        return _noticed(decision, seen)
    if not seen:
        return [Refusal(decision.server, "no workload of this name was seen in this cycle")]
    if len(seen) > 1:
        names = ", ".join(str(each.workload.ref) for each in seen)
        reason = f"several workloads have this server name: {names}"
        return [Refusal(decision.server, reason, each.workload.ref) for each in seen]
    return _of_one(decision, seen[0].workload, decision.holds + seen[0].all_holds, means)


def _noticed(decision: Decision, seen: list[ServerObservation]) -> list[Patch | Refusal]:
    """What is worth telling although nothing was to be changed: what was done before went wrong."""
    return [
        Refusal(decision.server, _named((hold,)), each.workload.ref, (str(hold.reason),))
        for each in seen
        for hold in each.holds
        if hold.reason is HoldReason.GROWTH_NOT_READY
    ]


def _of_one(
    decision: Decision, workload: Workload, holds: tuple[Hold, ...], means: Means
) -> list[Patch | Refusal]:
    if decision.action is not Action.HOLD:
        made = _made(decision, workload, holds, means)
        if isinstance(made, str):
            return [Refusal(decision.server, made, workload.ref)] if made else []
        return [made]
    told = tuple(hold for hold in holds if hold.reason in WORTH_TELLING)
    kinds = tuple(dict.fromkeys(str(hold.reason) for hold in told))
    return [Refusal(decision.server, _named(told), workload.ref, kinds)] if told else []


def _made(
    decision: Decision, workload: Workload, holds: tuple[Hold, ...], means: Means
) -> Patch | str:
    """The patch, or why there is none; "" where none is needed."""
    if _changes_nothing(decision, workload):
        return ""
    if decision.action is Action.SWITCH and _other_template(decision, workload):
        return _begun(decision, workload, holds, means)
    return _objection(decision, workload, holds) or _patch(decision, workload)


def _begun(
    decision: Decision, workload: Workload, holds: tuple[Hold, ...], means: Means
) -> Patch | str:
    """The first patch of a switch, or what speaks against it."""
    if not means.templates:
        what = _other_template(decision, workload)
        return f"{what} has no template that would make it real; nothing of it is done"
    if holds:
        return f"not another accelerator or batch: {_named(holds)}"
    return begin(workload, decision, means.templates, means.switch, means.now)


def _patch(decision: Decision, workload: Workload) -> Patch:
    return Patch(
        ref=workload.ref,
        server=decision.server,
        replicas_before=workload.replicas,
        replicas=decision.desired.replicas,
        labels={},
        reason=decision.reason,
        rests_on=workload.labels,
        makes_room_for=decision.makes_room_for,
    )


def _changes_nothing(decision: Decision, workload: Workload) -> bool:
    same_replicas = decision.desired.replicas == workload.replicas
    return same_replicas and not _other_template(decision, workload)


def _objection(decision: Decision, workload: Workload, holds: tuple[Hold, ...]) -> str:
    """Why the change may not be made; "" where nothing speaks against it."""
    template = _other_template(decision, workload)
    if template:
        return f"{template} has no template that would make it real; nothing of it is done"
    before, after = workload.replicas, decision.desired.replicas
    direction = Forbids.INCREASE if after > before else Forbids.DECREASE
    step = f"from {before} to {after} replicas"
    if after < 0 or (decision.action is Action.SCALE_UP) != (direction is Forbids.INCREASE):
        return f"a {decision.action} cannot go {step}"
    against = _against(holds, direction, before, after)
    return f"not {step}: {_named(against)}" if against else ""


def _other_template(decision: Decision, workload: Workload) -> str:
    """The change that replicas alone do not make, in words; "" where there is none."""
    desired = decision.desired
    if desired.accelerator != workload.accelerator and (desired.accelerator or desired.replicas):
        return f"accelerator {workload.accelerator!r} -> {desired.accelerator!r}"
    # 0 says nothing of the batch, neither as wish nor as label.
    if desired.max_batch and workload.max_batch and desired.max_batch != workload.max_batch:
        return f"maximum batch {workload.max_batch} -> {desired.max_batch}"
    return ""


def _against(
    holds: tuple[Hold, ...], direction: Forbids, before: int, after: int
) -> tuple[Hold, ...]:
    return tuple(hold for hold in holds if hold.binds(direction, before, after))


def _named(holds: tuple[Hold, ...]) -> str:
    """Each reason once: decision and observation may name the same hold."""
    return "; ".join(dict.fromkeys(f"{hold.reason}: {hold.detail}" for hold in holds))
