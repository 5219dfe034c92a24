"""CustomResourceDefinitions of our kinds, generated from the documented forms."""

from __future__ import annotations

from typing import Any, Final

from controlloop.api.custom_kinds import GROUP, VERSION, CustomKind, custom_kinds
from controlloop.api.structural import Schema

LONGEST_MESSAGE: Final = 32768


def custom_resource_definitions() -> tuple[dict[str, Any], ...]:
    """One `apiextensions.k8s.io/v1` CustomResourceDefinition a kind."""
    return tuple(_definition(kind) for kind in custom_kinds())


def _definition(kind: CustomKind) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["inferno"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {
                            "name": column.name,
                            "type": column.type,
                            "jsonPath": column.path,
                            "priority": column.priority,
                        }
                        for column in kind.columns
                    ],
                    "schema": {"openAPIV3Schema": _object(kind)},
                }
            ],
        },
    }


def _object(kind: CustomKind) -> Schema:
    return {
        "type": "object",
        "description": kind.purpose,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": kind.spec,
            "status": _status(kind.status),
        },
    }


def _status(own: Schema) -> Schema:
    return {
        "type": "object",
        "description": "What was made of it; written by the controller alone.",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation of the spec that this status is about.",
            },
            "conditions": {
                "type": "array",
                "description": "Ready and Degraded, each with a reason.",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": _condition(),
            },
            **own,
        },
    }


def _condition() -> Schema:
    """The form of a condition, as the Kubernetes API conventions have it."""
    return {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "maxLength": 316},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
            "message": {"type": "string", "maxLength": LONGEST_MESSAGE},
        },
    }
