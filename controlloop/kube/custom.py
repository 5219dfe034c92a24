"""Our custom resources at the API server: lists, statuses, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from controlloop.api.custom_kinds import API_VERSION, GROUP, VERSION, custom_kinds
from controlloop.api.observation import WorkloadRef
from controlloop.clock import Deadline, SystemClock
from controlloop.kube.connection import MERGE_PATCH, Connection, Object
from controlloop.kube.informers import Lister
from controlloop.kube.resources import Resource
from controlloop.kube.writes import send_event

RESOURCES: Final[Mapping[str, Resource]] = {
    each.kind: Resource(f"/apis/{GROUP}/{VERSION}", each.plural, each.kind)
    for each in custom_kinds()
}


class CustomResources:
    """Reads every kind and writes statuses, never specs.

    Args:
        connection: to the API server.
        namespaces: which to look at; none is all.
        instance: which process of controlloop its events name.
        lister: gives whole lists; None asks for them by the connection.

    """

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str] = (),
        instance: str = "controller",
        lister: Lister | None = None,
    ) -> None:
        self._connection = connection
        self._lister = lister or connection
        self._namespaces = tuple(namespaces) or ("",)
        self._instance = instance

    def all(self, timeout_s: float) -> list[Object]:
        """Every object of every kind, with its kind.

        Raises:
            ClusterError: one of the kinds cannot be listed.

        """
        deadline = Deadline(SystemClock(), timeout_s)
        return [
            # Items of a list do not say what they are.
            {"apiVersion": API_VERSION, "kind": kind, **each}
            for kind, resource in RESOURCES.items()
            for namespace in self._namespaces
            for each in self._lister.items(resource, deadline.remaining_s(), namespace)
        ]

    def write_status(self, each: Object, status: Mapping[str, Any], timeout_s: float) -> Object:
        """Replace the status of the object at the version that was read.

        Raises:
            ConflictError: it changed since.
            NotFoundError: it is gone.

        """
        metadata = each["metadata"]
        resource = RESOURCES[each["kind"]]
        before: Mapping[str, Any] = each.get("status") or {}
        # A merge patch leaves what it does not name: what is to go is named as null.
        gone = dict.fromkeys(before.keys() - status.keys())
        body = {
            "metadata": {key: metadata[key] for key in ("uid", "resourceVersion")},
            "status": {**_replaced(before, status), **gone},
        }
        path = f"{resource.path(metadata['namespace'], metadata['name'])}/status"
        what = f"write the status of {resource.named(metadata['namespace'], metadata['name'])}"
        return self._connection.send("PATCH", path, what, timeout_s, body, (), MERGE_PATCH)

    def record(self, each: Object, reason: str, message: str, timeout_s: float) -> None:
        """Write an event on the object."""
        metadata = each["metadata"]
        ref = WorkloadRef(
            metadata["namespace"],
            metadata["name"],
            metadata["uid"],
            metadata["resourceVersion"],
            kind=each["kind"],
        )
        send_event(
            self._connection,
            ref,
            reason,
            message,
            timeout_s,
            self._instance,
            api_version=API_VERSION,
        )


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`after` as a merge patch over `before`, one level down too."""
    patch: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            patch[key] = {**_replaced(old, value), **dict.fromkeys(old.keys() - value.keys())}
        else:
            patch[key] = value
    return patch
