"""Which events a plan and its outcome are worth: each change; each refusal and failure once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlloop.api.decision import Outcome, Patch, PatchStatus, Plan, SwitchStep
from controlloop.api.observation import WorkloadRef
from controlloop.errors import NotFoundError

SCALED_UP: Final = "ScaledUp"
SCALED_DOWN: Final = "ScaledDown"
SIBLING_CREATED: Final = "SiblingCreated"
SIBLING_RENEWED: Final = "SiblingRenewed"
SIBLING_REMOVED: Final = "SiblingRemoved"
CHANGE_REFUSED: Final = "ChangeRefused"
CHANGE_FAILED: Final = "ChangeFailed"
SWITCHES: Final = {
    SwitchStep.BEGIN: "SwitchBegun",
    SwitchStep.LEAVE: "SwitchServes",
    SwitchStep.END: "SwitchDone",
    SwitchStep.UNDO: "SwitchFailed",
    SwitchStep.UNDONE: "SwitchUndone",
}


@dataclass(frozen=True, slots=True)
class News:
    """One event to write."""

    ref: WorkloadRef
    reason: str
    message: str


class Told:
    """Remembers what was told: a refusal or failure that lasts is told when it begins or changes.

    One that is made of holds changes with their types: their details have numbers of the moment.
    """

    def __init__(self) -> None:
        self._standing: frozenset[tuple[str, ...]] = frozenset()

    def news(self, plan: Plan, outcome: Outcome) -> list[News]:
        """What the workloads' owners have not been told yet."""
        changes = [
            News(each.patch.primary or each.patch.ref, _reason(each.patch), _message(each.patch))
            for each in outcome.patches
            if each.status is PatchStatus.APPLIED
        ]
        standing = {
            (each.ref.namespace, each.ref.name, *(each.kinds or (each.reason,))): News(
                each.ref, CHANGE_REFUSED, each.reason
            )
            for each in plan.refusals
            if each.ref is not None
        }
        for one in outcome.patches:
            gone = one.error == NotFoundError.__name__
            if one.status in (PatchStatus.FAILED, PatchStatus.NOT_SENT) and not gone:
                ref, message = one.patch.ref, f"{_undone(one.patch)}: {one.detail}"
                key = (ref.namespace, ref.name, str(one.status), one.error)
                standing[key] = News(one.patch.primary or ref, CHANGE_FAILED, message)
        new = [news for key, news in standing.items() if key not in self._standing]
        self._standing = frozenset(standing)
        return changes + new


def _undone(patch: Patch) -> str:
    if patch.birth is not None:
        return f"{patch.ref} is not {'renewed' if patch.ref.uid else 'made'}"
    return (
        f"{patch.ref} is not removed" if patch.removes else f"{patch.replicas} replicas are not set"
    )


def _message(patch: Patch) -> str:
    """What was done and why; of a sibling it is told on its primary, so it is named."""
    return patch.reason if patch.primary is None else f"{patch.ref}: {patch.reason}"


def _reason(patch: Patch) -> str:
    if patch.primary is not None:
        made = SIBLING_RENEWED if patch.ref.uid else SIBLING_CREATED
        return SIBLING_REMOVED if patch.removes else made
    if patch.change is not None:
        return SWITCHES[patch.change.step]
    return SCALED_UP if patch.replicas > patch.replicas_before else SCALED_DOWN
