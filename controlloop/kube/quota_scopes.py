"""Which pods a ResourceQuota with scopes is for, as the API server decides it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Object = Mapping[str, Any]

PRIORITY_CLASS: Final = "PriorityClass"
_EXISTS: Final = "Exists"
_COMPUTE: Final = ("cpu", "memory")


def counts(quota_spec: Object, pod_spec: Object) -> bool:
    """Whether pods of `pod_spec` count against a quota; False also where that cannot be told.

    All of its scopes must fit. What an admission plug-in adds to pods, such as the default
    priority class, is not in a template and not known.
    """
    return all(
        _fits(scope, operator, values, pod_spec) for scope, operator, values in _scopes(quota_spec)
    )


def _scopes(spec: Object) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for scope in spec.get("scopes") or ():
        yield scope, _EXISTS, ()
    for each in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        yield each["scopeName"], each["operator"], tuple(each.get("values") or ())


def _fits(scope: str, operator: str, values: tuple[str, ...], pod: Object) -> bool:
    if scope == PRIORITY_CLASS:
        return _named(str(pod.get("priorityClassName") or ""), operator, values)
    if operator != _EXISTS:
        return False
    ends = pod.get("activeDeadlineSeconds") is not None
    return {
        "Terminating": ends,
        "NotTerminating": not ends,
        "BestEffort": _best_effort(pod),
        "NotBestEffort": not _best_effort(pod),
    }.get(scope, False)


def _named(name: str, operator: str, values: tuple[str, ...]) -> bool:
    return {
        "In": name in values,
        # Without a name it may still get the default class, which may be one of them.
        "NotIn": bool(name) and name not in values,
        _EXISTS: bool(name),
    }.get(operator, False)


def _best_effort(pod: Object) -> bool:
    """Whether no container asks for processors or memory: cards alone are no such claim."""
    containers = [*pod.get("containers", ()), *(pod.get("initContainers") or ())]
    wants = [each.get("resources") or {} for each in containers]
    return not any(
        name in (want.get(kind) or {})
        for want in wants
        for kind in ("requests", "limits")
        for name in _COMPUTE
    )
