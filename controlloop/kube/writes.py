"""What is written to workloads: patches that rest on a version, and events."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from controlloop.api.decision import Patch
from controlloop.api.observation import WorkloadRef
from controlloop.errors import InvalidObjectError
from controlloop.kube.connection import MERGE_PATCH, Connection
from controlloop.kube.pod_template import shape_patch, template_patch
from controlloop.kube.resources import DEPLOYMENTS, EVENTS, Resource

FIELD_MANAGER: Final = "controlloop"
REPORTER: Final = "inferno.platform.ai/controlloop"
LONGEST_NOTE_BYTES: Final = 1024
LONGEST_NAME: Final = 200
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"


def patch_body(patch: Patch) -> dict[str, Any]:
    """The patch: the API server refuses it where uid or version are not these any more.

    It means the same as merge patch and, where the pod template changes, as strategic merge patch.

    Raises:
        InvalidObjectError: the patch does not say on which version it rests.

    """
    metadata = _precondition(patch.ref)
    if patch.labels:
        metadata["labels"] = dict(patch.labels)
    spec: dict[str, Any] = {}
    if patch.replicas != patch.replicas_before:
        spec["replicas"] = patch.replicas
    change = patch.change
    if change is not None:
        metadata["annotations"] = dict(change.annotations)
        if change.shape is not None:
            spec |= shape_patch(change.shape)
        if change.after is not None:
            spec["template"] = template_patch(change.before, change.after)
    return {"metadata": metadata, "spec": spec} if spec else {"metadata": metadata}


def send_patch(
    connection: Connection,
    patch: Patch,
    timeout_s: float,
    field_manager: str,
    *,
    dry_run: bool,
    scaled: Resource | None = None,
) -> None:
    """Send one patch; with `dry_run` the API server checks it and stores nothing.

    Args:
        connection: where to send it.
        patch: what to change.
        timeout_s: time-out of the request.
        field_manager: owner of the fields that are set.
        dry_run: whether to have it checked alone.
        scaled: the kind of what is no Deployment: its replicas are set by its scale subresource.

    Raises:
        InvalidObjectError: more than the replicas of such a one was to be changed.
        ConflictError: the workload changed since it was read.
        NotFoundError: it is gone.

    """
    query = [("fieldManager", field_manager), ("fieldValidation", "Strict")]
    if dry_run:
        query.append(("dryRun", "All"))
    path = (scaled or DEPLOYMENTS).path(patch.ref.namespace, patch.ref.name)
    if scaled is not None:
        if patch.labels or patch.change is not None:
            raise InvalidObjectError(f"cannot patch {patch.ref}: only its replicas can be set")
        path += "/scale"
    what = f"patch {patch.ref}"
    kind = MERGE_PATCH if patch.change is None else STRATEGIC_MERGE_PATCH
    connection.send("PATCH", path, what, timeout_s, patch_body(patch), query, kind)


def send_annotations(
    connection: Connection,
    ref: WorkloadRef,
    annotations: Mapping[str, str | None],
    timeout_s: float,
    field_manager: str,
) -> None:
    """Set annotations of a Deployment and nothing else; None removes one.

    Raises:
        InvalidObjectError: it is not said on which version that rests.
        ConflictError: the Deployment changed since it was read.
        NotFoundError: it is gone.

    """
    body = {"metadata": _precondition(ref) | {"annotations": dict(annotations)}}
    query = [("fieldManager", field_manager), ("fieldValidation", "Strict")]
    path = DEPLOYMENTS.path(ref.namespace, ref.name)
    connection.send("PATCH", path, f"annotate {ref}", timeout_s, body, query, MERGE_PATCH)


def _precondition(ref: WorkloadRef) -> dict[str, Any]:
    """Metadata that the API server refuses where uid or version are not these any more."""
    if not (ref.uid and ref.resource_version):
        raise InvalidObjectError(f"cannot patch {ref}: uid and resource version are not known")
    return {"uid": ref.uid, "resourceVersion": ref.resource_version}


def send_event(
    connection: Connection,
    ref: WorkloadRef,
    reason: str,
    message: str,
    timeout_s: float,
    instance: str,
    *,
    api_version: str = "apps/v1",
) -> None:
    """Write an event on an object.

    Args:
        connection: where to send it.
        ref: the object.
        reason: one word in camel case.
        message: for a person; cut where it is longer than an event may be.
        timeout_s: time-out of the request.
        instance: which process of controlloop says this.
        api_version: group and version of the object's kind.

    """
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{ref.name[:LONGEST_NAME]}.{uuid.uuid4().hex[:16]}",
            "namespace": ref.namespace,
        },
        "eventTime": microtime(datetime.now(UTC)),
        "type": "Normal",
        "reason": reason,
        "action": reason,
        "note": message.encode()[:LONGEST_NOTE_BYTES].decode(errors="ignore"),
        "regarding": {
            "apiVersion": api_version,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
            "resourceVersion": ref.resource_version,
        },
        "reportingController": REPORTER,
        "reportingInstance": instance,
    }
    connection.send("POST", EVENTS.path(ref.namespace), f"write an event on {ref}", timeout_s, body)


def microtime(moment: datetime) -> str:
    """A moment as the API writes it, with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
