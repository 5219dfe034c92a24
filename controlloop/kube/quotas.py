"""ResourceQuotas on cards. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlloop.api.observation import QuotaShare
from controlloop.kube.nodes import VENDORS, cards_of, quantity
from controlloop.kube.quota_scopes import counts
from controlloop.kube.resources import RESOURCE_QUOTAS

Object = Mapping[str, Any]


def quota_shares(deployment: Object, quotas: Iterable[Object]) -> tuple[QuotaShare, ...]:
    """Every quota of its namespace that the Deployment's pods count against.

    Of a quota with scopes that may or may not be for its pods, what it refuses shows as
    `pods-refused`.
    """
    namespace = deployment["metadata"]["namespace"]
    pod = (deployment["spec"].get("template") or {}).get("spec") or {}
    found = []
    for quota in quotas:
        metadata, spec = quota["metadata"], quota.get("spec") or {}
        if metadata["namespace"] != namespace or not counts(spec, pod):
            continue
        status = quota.get("status") or {}
        for vendor in VENDORS:
            key, each = f"requests.{vendor.resource}", cards_of(pod, vendor.resource)
            if each and key in (spec.get("hard") or {}):
                hard, used = quantity(spec["hard"], key), quantity(status.get("used"), key)
                name = RESOURCE_QUOTAS.named(namespace, metadata["name"])
                found.append(QuotaShare(name, vendor.resource, each, hard, used))
    return tuple(found)
