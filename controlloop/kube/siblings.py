"""Makes siblings, Deployments beside one of a person's, and removes them again.

The owner reference has the removal of the primary remove its siblings. It does not make the
primary their controller, since it is the loop that sets their replicas, and does not block the
primary's removal, for which one would need leave to change the primary's finalizers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from controlloop.api.decision import Birth, Patch
from controlloop.api.labels import SIBLING, SIBLING_SOURCE
from controlloop.api.observation import WorkloadRef
from controlloop.clock import Deadline, SystemClock
from controlloop.errors import ConflictError, InvalidObjectError
from controlloop.kube.connection import Connection
from controlloop.kube.kinship import template_digest
from controlloop.kube.pod_template import template_patch
from controlloop.kube.resources import DEPLOYMENTS
from controlloop.kube.writes import STRATEGIC_MERGE_PATCH, patch_body

Object = Mapping[str, Any]

_COPIED: Final = (
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
)
_BY_NAME: Final = ("containers", "env")


def sibling_body(primary: Object, patch: Patch, birth: Birth) -> dict[str, Any]:
    """The Deployment that `patch` makes beside `primary`."""
    metadata, spec, name = primary["metadata"], primary["spec"], patch.ref.name
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {
            "name": name,
            "namespace": patch.ref.namespace,
            "labels": {**patch.labels, SIBLING: name},
            "annotations": {**birth.annotations, SIBLING_SOURCE: birth.source},
            "ownerReferences": [
                {
                    "apiVersion": DEPLOYMENTS.api_version,
                    "kind": DEPLOYMENTS.kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            **{key: spec[key] for key in _COPIED if key in spec},
            "replicas": patch.replicas,
            "selector": {"matchLabels": {SIBLING: name}},
            "template": _template(primary, birth, name),
        },
    }


def create_sibling(
    connection: Connection,
    patch: Patch,
    birth: Birth,
    timeout_s: float,
    field_manager: str,
    *,
    dry_run: bool,
) -> None:
    """Make a sibling from its primary as that is now.

    Raises:
        ConflictError: the primary's pod template is another by now, or there is a Deployment of
            that name.
        NotFoundError: the primary is gone.
        InvalidObjectError: the patch does not say whose sibling it makes.

    """
    deadline = Deadline(SystemClock(), timeout_s)
    primary = _read_primary(connection, patch, birth, deadline)
    query = [("fieldManager", field_manager), ("fieldValidation", "Strict"), *_dry(dry_run)]
    path = DEPLOYMENTS.path(patch.ref.namespace)
    body = sibling_body(primary, patch, birth)
    connection.send("POST", path, f"create {patch.ref}", deadline.remaining_s(), body, query)


def renew_sibling(
    connection: Connection,
    patch: Patch,
    birth: Birth,
    timeout_s: float,
    field_manager: str,
    *,
    dry_run: bool,
) -> None:
    """Give a sibling the pod template that its primary has now; it rolls out as that one does.

    Raises:
        ConflictError: it, or the primary's pod template, changed since it was read.
        NotFoundError: one of both is gone.
        InvalidObjectError: the patch does not say whose sibling it is, or at which version.

    """
    deadline, ref = Deadline(SystemClock(), timeout_s), patch.ref
    primary = _read_primary(connection, patch, birth, deadline)
    body = patch_body(patch)
    body["metadata"]["annotations"] = {SIBLING_SOURCE: birth.source}
    template = _template(primary, birth, ref.name)
    body["spec"] = {**body.get("spec", {}), "template": {"$patch": "replace", **template}}
    query = [("fieldManager", field_manager), ("fieldValidation", "Strict"), *_dry(dry_run)]
    path, what = DEPLOYMENTS.path(ref.namespace, ref.name), f"renew {ref}"
    left_s = deadline.remaining_s()
    connection.send("PATCH", path, what, left_s, body, query, STRATEGIC_MERGE_PATCH)


def delete_sibling(
    connection: Connection, ref: WorkloadRef, timeout_s: float, *, dry_run: bool
) -> None:
    """Remove a sibling, at the version that was read and no other.

    Raises:
        InvalidObjectError: the version is not known.
        ConflictError: it changed since it was read.
        NotFoundError: it is gone.

    """
    if not (ref.uid and ref.resource_version):
        raise InvalidObjectError(f"cannot delete {ref}: uid and resource version are not known")
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": ref.uid, "resourceVersion": ref.resource_version},
        "propagationPolicy": "Background",
    }
    path = DEPLOYMENTS.path(ref.namespace, ref.name)
    connection.send("DELETE", path, f"delete {ref}", timeout_s, body, _dry(dry_run))


def merged(thing: Object, patch: Object) -> dict[str, Any]:
    """A pod template, or a part of it, with what `template_patch` changes. Nothing is shared."""
    result: dict[str, Any] = copy.deepcopy(dict(thing))
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif key in _BY_NAME:
            result[key] = _merged_by_name(result.get(key) or (), value)
        elif isinstance(value, Mapping):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _template(primary: Object, birth: Birth, name: str) -> dict[str, Any]:
    template = merged(primary["spec"]["template"], template_patch(birth.before, birth.after))
    template.setdefault("metadata", {}).setdefault("labels", {})[SIBLING] = name
    return template


def _merged_by_name(things: Sequence[Object], patches: Sequence[Object]) -> list[Object]:
    found = {each["name"]: each for each in things}
    for patch in patches:
        if patch.get("$patch") == "delete":
            found.pop(patch["name"], None)
        else:
            found[patch["name"]] = merged(found.get(patch["name"]) or {}, patch)
    return list(found.values())


def _read_primary(connection: Connection, patch: Patch, birth: Birth, deadline: Deadline) -> Object:
    primary = patch.primary
    if primary is None:
        raise InvalidObjectError(f"cannot create {patch.ref}: whose sibling it is, is not known")
    path = DEPLOYMENTS.path(primary.namespace, primary.name)
    found = connection.get(path, f"read {primary}", deadline.remaining_s())
    if found["metadata"]["uid"] != primary.uid or found["metadata"].get("deletionTimestamp"):
        raise ConflictError(f"cannot create {patch.ref}: {primary} was deleted since it was read")
    if template_digest(found["spec"]["template"]) != birth.source:
        raise ConflictError(f"cannot create {patch.ref}: the pod template of {primary} changed")
    return found


def _dry(dry_run: bool) -> list[tuple[str, str]]:  # noqa: FBT001 - private
    return [("dryRun", "All")] if dry_run else []
