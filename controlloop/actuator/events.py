"""Which events a plan and its outcome are worth: each change; each refusal and failure once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlloop.api.decision import Outcome, Patch, PatchStatus, Plan, SwitchStep
from controlloop.api.observation import WorkloadRef
from controlloop.errors import NotFoundError

SCALED_UP: Final = "ScaledUp"
SCALED_DOWN: Final = "ScaledDown"
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
            News(each.patch.ref, _reason(each.patch), each.patch.reason)
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
                ref, what = one.patch.ref, f"{one.patch.replicas} replicas are not set"
                message = f"{what}: {one.detail}"
                key = (ref.namespace, ref.name, str(one.status), one.error)
                standing[key] = News(ref, CHANGE_FAILED, message)
        new = [news for key, news in standing.items() if key not in self._standing]
        self._standing = frozenset(standing)
        return changes + new


def _reason(patch: Patch) -> str:
    if patch.change is not None:
        return SWITCHES[patch.change.step]
    return SCALED_UP if patch.replicas > patch.replicas_before else SCALED_DOWN
