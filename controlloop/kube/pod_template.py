"""What of a Deployment changes with its accelerator: read from the API's JSON, and patched. Pure.

Patches are strategic merge patches: containers and variables are merged by name, maps by key;
lists of words and of tolerations are replaced whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from controlloop.api import labels as keys
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.json_text import parse_json
from controlloop.api.plain_values import from_plain
from controlloop.api.switching import (
    PodTemplate,
    Rollable,
    RolloutShape,
    SwitchFailure,
    SwitchRecord,
)
from controlloop.errors import InputError
from controlloop.kube.kinship import clash_of, template_digest

Object = Mapping[str, Any]
T = TypeVar("T")
_RESOURCES: Final = ("limits", "requests")


def read_rollable(
    deployment: Object, *, seen: bool, settled: bool
) -> tuple[Rollable, tuple[Hold, ...]]:
    """What a switch rests on, and what its notes on the Deployment forbid.

    Args:
        deployment: as the API gives it.
        seen: whether its controller knows what its spec asks for.
        settled: whether every pod is made from its template.

    """
    spec, notes = deployment["spec"], _Notes(deployment["metadata"].get("annotations") or {})
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    record = notes.read(keys.SWITCH, SwitchRecord)
    failure = notes.read(keys.SWITCH_FAILED, SwitchFailure)
    displaced = notes.read(keys.DISPLACED, dict[str, str])
    rollable = Rollable(
        template=_template(spec.get("template") or {}, notes.annotations.get(keys.CONTAINER, "")),
        shape=RolloutShape(
            max_surge=json.dumps(rolling.get("maxSurge", "25%")),
            max_unavailable=json.dumps(rolling.get("maxUnavailable", "25%")),
            min_ready_s=spec.get("minReadySeconds") or 0,
            progress_deadline_s=spec.get("progressDeadlineSeconds") or 600,
        ),
        rolling=strategy.get("type", "RollingUpdate") == "RollingUpdate",
        seen=seen,
        paused=bool(spec.get("paused")),
        settled=settled,
        switch=record,
        failure=failure,
        displaced=displaced or {},
        digest=template_digest(spec.get("template") or {}),
        clash=clash_of(spec),
    )
    holds = tuple(notes.holds)
    if record is not None:
        detail = f"{record.state}: {record.before} to {record.after.replicas} of {record.after}"
        holds += (Hold(HoldReason.SWITCHING, Forbids.CHANGE, detail),)
    return rollable, holds


def shape_patch(shape: RolloutShape) -> dict[str, Any]:
    """The part of a Deployment's spec that says how it rolls out."""
    return {
        "minReadySeconds": shape.min_ready_s,
        "progressDeadlineSeconds": shape.progress_deadline_s,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": json.loads(shape.max_surge),
                "maxUnavailable": json.loads(shape.max_unavailable),
            },
        },
    }


def template_patch(before: PodTemplate, after: PodTemplate) -> dict[str, Any]:
    """The part of a Deployment's pod template that differs; empty where nothing does."""
    changed = {
        slot: after.fields.get(slot)
        for slot in {**before.fields, **after.fields}
        if before.fields.get(slot) != after.fields.get(slot)
    }
    container: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for slot, text in changed.items():
        name, _, key = slot.partition("/")
        value = None if text is None else json.loads(text)
        if name == "annotation":
            metadata.setdefault("annotations", {})[key] = value
        elif name == "nodeSelector":
            spec.setdefault("nodeSelector", {})[key] = value
        elif name in _RESOURCES:
            container.setdefault("resources", {}).setdefault(name, {})[key] = value
        elif name == "env":
            gone = {"name": key, "$patch": "delete"}
            container.setdefault("env", []).append(gone if value is None else _whole(value))
        elif name == "runtimeClassName":
            spec[name] = value
        elif name == "image":
            container[name] = value
    if any(slot.startswith("toleration/") for slot in changed):
        spec["tolerations"] = [
            json.loads(text)
            for slot, text in after.fields.items()
            if slot.startswith("toleration/")
        ]
    for name in ("command", "args"):
        words = getattr(after, name)
        if words != getattr(before, name):
            container[name] = list(words) or None
    if container:
        spec["containers"] = [{"name": after.container, **container}]
    return {key: part for key, part in (("metadata", metadata), ("spec", spec)) if part}


def _whole(variable: Mapping[str, Any]) -> dict[str, Any]:
    """The variable as it is to be: a value must not be merged with where another came from."""
    return {"value": None, "valueFrom": None, **variable}


def _template(template: Object, named: str) -> PodTemplate:
    spec = template.get("spec") or {}
    containers = spec.get("containers") or ()
    if named:
        containers = [each for each in containers if each["name"] == named]
    container: Object = containers[0] if containers else {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    fields = {f"nodeSelector/{key}": value for key, value in _map(spec, "nodeSelector")}
    if keys.ALLOCATION in annotations:
        fields[f"annotation/{keys.ALLOCATION}"] = annotations[keys.ALLOCATION]
    fields |= {f"toleration/{_text(each)}": each for each in spec.get("tolerations") or ()}
    if spec.get("runtimeClassName"):
        fields["runtimeClassName"] = spec["runtimeClassName"]
    if container.get("image"):
        fields["image"] = container["image"]
    for name in _RESOURCES:
        amounts = _map(container.get("resources") or {}, name)
        fields |= {f"{name}/{key}": value for key, value in amounts}
    fields |= {f"env/{each['name']}": each for each in container.get("env") or ()}
    return PodTemplate(
        container=container.get("name", ""),
        fields={slot: _text(value) for slot, value in fields.items()},
        command=tuple(container.get("command") or ()),
        args=tuple(container.get("args") or ()),
    )


def _map(thing: Object, name: str) -> Any:
    return (thing.get(name) or {}).items()


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class _Notes:
    """Reads our own annotations; one that is no good holds the server and is named."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self.annotations = annotations
        self.holds: list[Hold] = []

    def read(self, key: str, kind: type[T]) -> T | None:
        if key not in self.annotations:
            return None
        try:
            return from_plain(kind, parse_json(self.annotations[key]))
        except InputError as error:
            problem = str(error).replace("\n", "; ")
            detail = f"{key}: is not what the loop wrote: {problem}"
            self.holds.append(Hold(HoldReason.LABELS_INVALID, Forbids.CHANGE, detail))
            return None
