"""Other controllers that scale a workload: we do not fight them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlloop.kube.resources import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, Resource

Object = Mapping[str, Any]
Target = tuple[str, str, str]
"""Kind, namespace and name of what is scaled."""


def scalers_by_target(
    autoscalers: Iterable[Object], scaled_objects: Iterable[Object]
) -> dict[Target, str]:
    """Who scales which workload, in words.

    Of a KEDA ScaledObject and the HorizontalPodAutoscaler that KEDA makes for it, the
    ScaledObject is named: that is the one a person wrote.
    """
    return _targets(AUTOSCALERS, autoscalers) | _targets(SCALED_OBJECTS, scaled_objects)


def _targets(resource: Resource, scalers: Iterable[Object]) -> dict[Target, str]:
    found = {}
    for scaler in scalers:
        metadata = scaler["metadata"]
        target = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
        # KEDA's default kind is Deployment; an autoscaler always names one.
        if target.get("name"):
            namespace, kind = metadata["namespace"], target.get("kind", DEPLOYMENTS.kind)
            found[kind, namespace, target["name"]] = resource.named(namespace, metadata["name"])
    return found
