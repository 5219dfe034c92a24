"""The custom resources: which kinds there are, what their spec and status hold.

The specs are the documented forms, one object each; a name that is left out is the object's
own, since "H100" is no name that Kubernetes takes. What is decided stands in the status alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from controlloop.api.specs import (
    AllocationData,
    CapacityData,
    ModelAcceleratorPerfData,
    OptimizerSpec,
    ServerSpec,
    ServiceClassSpec,
)
from controlloop.api.specs_template import AcceleratorObjectSpec
from controlloop.api.structural import LONGEST_TEXT, MOST_ITEMS, Schema, structural_schema

GROUP: Final = "inferno.platform.ai"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; a priority above 0 shows it with `-o wide` only."""

    name: str
    type: str
    path: str
    priority: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CustomKind:
    """One kind of custom resource."""

    kind: str
    plural: str
    short: str
    purpose: str
    spec: Schema
    columns: tuple[Column, ...]
    status: Schema = field(default_factory=dict)


def custom_kinds() -> tuple[CustomKind, ...]:
    """Every kind, those first that others name."""
    return (_accelerator(), _capacity(), _model(), _service_class(), _server(), _optimizer())


def _named(schema: Schema, what: str) -> Schema:
    """`schema` with a name that may be left out."""
    name = {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_TEXT,
        "description": f"Name of the {what}, without unit; missing is the object's own name.",
    }
    required = [key for key in schema.get("required", ()) if key != "name"]
    changed = {**schema, "properties": {**schema["properties"], "name": name}}
    if required:
        return {**changed, "required": required}
    return {key: each for key, each in changed.items() if key != "required"}


def _accelerator() -> CustomKind:
    return CustomKind(
        "Accelerator",
        "accelerators",
        "acc",
        "A named unit of allocation: so many cards of one type, at a cost.",
        _named(structural_schema(AcceleratorObjectSpec), "unit"),
        (
            Column("Type", "string", ".spec.type"),
            Column("Cards", "integer", ".spec.multiplicity"),
            Column("Cents/h", "number", ".spec.cost"),
            *_CONDITION_COLUMNS,
        ),
    )


def _capacity() -> CustomKind:
    return CustomKind(
        "Capacity",
        "capacities",
        "cap",
        "Cards of some types; several objects add types, and a type stands in one of them.",
        structural_schema(CapacityData),
        (
            Column("Types", "string", ".spec.count[*].type"),
            Column("Cards", "string", ".spec.count[*].count"),
            *_CONDITION_COLUMNS,
        ),
    )


def _model() -> CustomKind:
    perf = structural_schema(ModelAcceleratorPerfData, without="name")
    accelerators = {
        "type": "array",
        "items": perf,
        "maxItems": MOST_ITEMS,
        "description": "How it performs, a list with one entry an accelerator.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["acc"],
    }
    schema: Schema = {
        "type": "object",
        "description": "Performance data of one model.",
        "properties": {"accelerators": accelerators},
        "required": ["accelerators"],
    }
    return CustomKind(
        "Model",
        "models",
        "mdl",
        "A model and how it performs on each accelerator.",
        _named(schema, "model"),
        (Column("Accelerators", "string", ".spec.accelerators[*].acc"), *_CONDITION_COLUMNS),
    )


def _service_class() -> CustomKind:
    return CustomKind(
        "ServiceClass",
        "serviceclasses",
        "svcclass",
        "A class of service: a priority, and targets by model.",
        _named(structural_schema(ServiceClassSpec), "class"),
        (Column("Priority", "integer", ".spec.priority"), *_CONDITION_COLUMNS),
    )


def _server() -> CustomKind:
    allocation = structural_schema(AllocationData)
    return CustomKind(
        "Server",
        "servers",
        "isrv",
        "One inference server: one model in one class of service, with its load.",
        _named(structural_schema(ServerSpec, without="desiredAlloc"), "server"),
        (
            Column("Model", "string", ".spec.model"),
            Column("Class", "string", ".spec.class"),
            Column("Accelerator", "string", ".status.allocation.accelerator"),
            Column("Replicas", "integer", ".status.allocation.numReplicas"),
            Column("Batch", "integer", ".status.allocation.maxBatch", 1),
            Column("Cents/h", "number", ".status.allocation.cost"),
            *_CONDITION_COLUMNS,
        ),
        {"allocation": allocation, "optimizer": _text("Name of the Optimizer that decided.")},
    )


def _optimizer() -> CustomKind:
    flags = structural_schema(OptimizerSpec)
    selector = {
        "type": "object",
        "description": "Which objects of the namespace belong to it; missing is all of them.",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that an object must carry.",
                "additionalProperties": {"type": "string", "maxLength": 63},
                "maxProperties": 16,
            }
        },
    }
    number = {"type": "number"}
    count = {"type": "integer", "format": "int64"}
    return CustomKind(
        "Optimizer",
        "optimizers",
        "iopt",
        "Optimizes the servers of its namespace, or those that it selects.",
        {**flags, "properties": {**flags["properties"], "selector": selector}},
        (
            Column("Servers", "integer", ".status.servers"),
            Column("Unserved", "integer", ".status.unserved"),
            Column("Cents/h", "number", ".status.cost"),
            Column("Solver", "string", ".status.solver"),
            Column("Solved", "string", ".status.solutionStatus", 1),
            *_CONDITION_COLUMNS,
        ),
        {
            "servers": {**count, "description": "Servers that belong to it, a count."},
            "unserved": {**count, "description": "Servers without what they need, a count."},
            "cost": {**number, "description": "Cost of all allocations, in cents/hour."},
            "solver": _text("The solver that found the answer."),
            "solutionStatus": _text("How good the answer is known to be."),
            "gap": {**number, "description": "Its distance from the bound, a share of it."},
        },
    )


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_CONDITION_COLUMNS: Final = (
    Column("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", 1),
    Column("Age", "date", ".metadata.creationTimestamp"),
)
