"""Who set the replicas and the allocation of a Deployment, by its managed fields. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from controlloop.api import labels as keys
from controlloop.api.interventions import Author

Object = Mapping[str, Any]

_ALLOCATION: Final = tuple(f"f:{key}" for key in (keys.ACCELERATOR, keys.MAX_BATCH))
_WHERE: Final = ("f:labels", "f:annotations")


def thin(metadata: dict[str, Any]) -> None:
    """Leave of an object's managed fields what tells its authors: the rest is half of an object."""
    kept = [small for each in metadata.pop("managedFields", ()) if (small := _thinned(each))]
    if kept:
        metadata["managedFields"] = kept


def replicas_author(metadata: Object, ours: str) -> Author | None:
    """Who set the replicas last; None where the API server does not say."""
    return _author(metadata, ours, [each for each in _entries(metadata) if _replicas(each)])


def allocation_author(metadata: Object, ours: str) -> Author | None:
    """Who set the accelerator or the maximum batch last, in labels or annotations."""
    return _author(metadata, ours, [each for each in _entries(metadata) if _allocation(each)])


def is_author(metadata: Object, manager: str) -> bool:
    """Whether `manager` set the replicas, or the allocation, of the object as it is."""
    return any(each["manager"] == manager for each in _entries(metadata))


def _author(metadata: Object, ours: str, entries: Iterable[Object]) -> Author | None:
    """Of several, all of whom agree on the value, ourselves; else who wrote last."""
    found = sorted(entries, key=lambda each: (each["manager"] == ours, each.get("time") or ""))
    if not found:
        return None
    entry = found[-1]
    at = entry.get("time")
    # The time is that of the entry: one of more fields may tell of another of them.
    alone = "f:template" not in _spec(entry) and at != metadata.get("creationTimestamp")
    return Author(entry["manager"], _seconds(at) if alone else None, entry["manager"] == ours)


def _thinned(entry: Object) -> dict[str, Any]:
    """The entry with the fields that matter here; empty where it has none of them."""
    allocation = _allocation(entry)
    if not (_replicas(entry) or allocation) or entry.get("subresource") == "status":
        return {}
    known = [field for field in ("f:replicas", "f:template") if field in _spec(entry)]
    spec: dict[str, Any] = {field: {} for field in known}
    small = {key: entry[key] for key in ("manager", "subresource", "time") if entry.get(key)}
    labels: dict[str, Any] = {field: {} for field in allocation}
    fields = {"f:spec": spec, "f:metadata": {"f:labels": labels}}
    return {"manager": "", **small, "fieldsV1": fields}


def _entries(metadata: Object) -> list[dict[str, Any]]:
    return [small for each in metadata.get("managedFields") or () if (small := _thinned(each))]


def _replicas(entry: Object) -> bool:
    return "f:replicas" in _spec(entry)


def _allocation(entry: Object) -> list[str]:
    metadata = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
    return [key for key in _ALLOCATION if any(key in (metadata.get(at) or {}) for at in _WHERE)]


def _spec(entry: Object) -> Object:
    spec: Object = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return spec


def _seconds(timestamp: str | None) -> float | None:
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None
