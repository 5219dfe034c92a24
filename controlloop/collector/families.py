"""Which Deployments serve together: one of a person's, and the siblings the loop made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Workload
from controlloop.collector.memory import WorkloadKey, workload_key


@dataclass(frozen=True, slots=True)
class Family:
    """A workload and its siblings, in order of name; most have none."""

    primary: Workload
    siblings: tuple[Workload, ...] = ()

    @property
    def whole(self) -> Workload:
        """The primary with the pods of all: what the load of its server is measured over."""
        if not self.siblings:
            return self.primary
        pods = [pod for each in (self.primary, *self.siblings) for pod in each.pods]
        return replace(self.primary, pods=tuple(sorted(pods, key=lambda pod: pod.name)))


def families(workloads: Sequence[Workload], *, joined: bool) -> tuple[Family, ...]:
    """The families of these workloads, in their order.

    A sibling whose primary is not among them, or names another server, is held as it is; so are
    two of the same accelerator.

    Args:
        workloads: every managed workload.
        joined: whether siblings are known as such; without, each workload is by itself.

    """
    if not joined:
        return tuple(Family(each) for each in workloads)
    primaries = {each.ref.uid: each for each in workloads if each.kinship is None}
    siblings: dict[str, list[Workload]] = {}
    places = Counter(_place(each) for each in workloads if each.kinship is not None)
    alone = []
    for each in workloads:
        owner = None if each.kinship is None else primaries.get(each.kinship.owner)
        if owner is not None and _belongs(each, owner) and places[_place(each)] == 1:
            siblings.setdefault(owner.ref.uid, []).append(each)
        else:
            alone.append(each if each.kinship is None else _held(each))
    return tuple(Family(each, _in_order(siblings.get(each.ref.uid, ()))) for each in alone)


def kin(found: Sequence[Family]) -> Mapping[WorkloadKey, WorkloadKey]:
    """Whose sibling each sibling is."""
    return {
        workload_key(each): workload_key(family.primary)
        for family in found
        for each in family.siblings
    }


def _belongs(sibling: Workload, owner: Workload) -> bool:
    same = (sibling.ref.namespace, sibling.server) == (owner.ref.namespace, owner.server)
    return same and sibling.accelerator != owner.accelerator


def _place(sibling: Workload) -> tuple[str, str]:
    """A server has one sibling on an accelerator: of two nobody can tell which is meant."""
    return "" if sibling.kinship is None else sibling.kinship.owner, sibling.accelerator


def _held(sibling: Workload) -> Workload:
    detail = (
        "the Deployment that it was made beside is not managed, or their labels do not fit together"
    )
    hold = Hold(HoldReason.SIBLING_ALONE, Forbids.CHANGE, detail)
    return replace(sibling, holds=(*sibling.holds, hold))


def _in_order(siblings: Sequence[Workload]) -> tuple[Workload, ...]:
    return tuple(sorted(siblings, key=lambda each: each.ref.name))
