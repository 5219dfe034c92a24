"""JSON forms of what is asked for: classes with targets, servers with load and allocation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from controlloop.api.spec_types import (
    Count,
    Flag,
    Form,
    Fraction,
    Name,
    Percentile,
    Quantity,
    Text,
    Total,
    TotalCount,
    Unique,
    WholeNumber,
)
from controlloop.api.system import (
    DEFAULT_CLASS,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    NO_ACCELERATOR,
)


def _priority(value: int) -> int:
    return value if HIGHEST_PRIORITY <= value <= LOWEST_PRIORITY else LOWEST_PRIORITY


class ModelTarget(Form):
    """Latency objectives of one model within a class; 0 or missing is no objective."""

    model: Name = Field(description="Name of the model, without unit; unique in its class.")
    slo_itl: Quantity = Field(
        0.0,
        alias="slo-itl",
        description="Most time between two output tokens, in ms; a mean over requests.",
    )
    slo_itl_percentile: Percentile | None = Field(
        None,
        alias="slo-itl-percentile",
        description="Percentile that slo-itl is of, from 0 to 100 without unit; missing: mean.",
    )
    slo_ttft: Quantity = Field(
        0.0,
        alias="slo-ttft",
        description="Most time to first token, waiting included, in ms; a mean over requests.",
    )
    slo_ttft_percentile: Percentile | None = Field(
        None,
        alias="slo-ttft-percentile",
        description="Percentile that slo-ttft is of, from 0 to 100 without unit; missing: mean.",
    )
    slo_tps: Quantity = Field(
        0.0,
        alias="slo-tps",
        description="Output tokens that the server must sustain, in tokens/s.",
    )


class ServiceClassSpec(Form):
    """A class of service: its priority and the objectives of each model in it."""

    name: Name = Field(description="Name of the class, without unit; unique.")
    priority: Annotated[WholeNumber, AfterValidator(_priority)] = Field(
        LOWEST_PRIORITY,
        description="Rank without unit: 1 is the highest, 100 the lowest; outside 1..100 is 100.",
    )
    model_targets: Annotated[tuple[ModelTarget, ...], Unique(("model",))] = Field(
        (), alias="modelTargets", description="Objectives by model, a list."
    )


class ServiceClassData(Form):
    """All classes of service."""

    service_classes: Annotated[tuple[ServiceClassSpec, ...], Unique(("name",))] = Field(
        alias="serviceClasses", description="The classes, a list."
    )


class LoadSpec(Form):
    """What a server is asked to do, means over its requests."""

    arrival_rate: Quantity = Field(
        0.0, alias="arrivalRate", description="Requests that arrive, in requests/minute."
    )
    avg_in_tokens: Quantity = Field(
        0.0, alias="avgInTokens", description="Mean input of a request, in tokens."
    )
    avg_out_tokens: Quantity = Field(
        0.0, alias="avgOutTokens", description="Mean output of a request, in tokens."
    )


class VariantSpec(Form):
    """The part of a server that runs on one accelerator, where it runs on several."""

    accelerator: Name = Field(description="Name of the accelerator, without unit.")
    num_replicas: TotalCount = Field(
        0, alias="numReplicas", description="Replicas of it, a count from 0."
    )
    max_batch: TotalCount = Field(
        0, alias="maxBatch", description="Requests that one replica serves at once, a count."
    )
    cost: Total = Field(0.0, description="Cost of these replicas, in cents/hour.")
    itl_average: Total = Field(
        0.0,
        alias="itlAverage",
        description="Mean time between two output tokens for its share of the load, in ms.",
    )
    ttft_average: Total = Field(
        0.0,
        alias="ttftAverage",
        description="Mean time to first token for its share of the load, in ms.",
    )
    share: Fraction = Field(
        0.0, description="Share of the server's load that it serves, a fraction from 0 to 1."
    )


class TailSpec(Form):
    """A percentile of a latency over requests."""

    percentile: Percentile = Field(description="Requests of 100 that stay within it, without unit.")
    latency: Total = Field(description="The latency at that percentile, in ms.")


class AllocationData(Form):
    """What a server runs on, and what is predicted (or was measured) there for its load."""

    accelerator: Text = Field(
        NO_ACCELERATOR, description='Name of the accelerator, without unit; "" is none.'
    )
    num_replicas: TotalCount = Field(
        0, alias="numReplicas", description="Replicas, a count from 0."
    )
    max_batch: TotalCount = Field(
        0, alias="maxBatch", description="Requests that one replica serves at once, a count."
    )
    cost: Total = Field(0.0, description="Cost of all replicas, in cents/hour.")
    itl_average: Total = Field(
        0.0, alias="itlAverage", description="Mean time between two output tokens, in ms."
    )
    ttft_average: Total = Field(
        0.0, alias="ttftAverage", description="Mean time to first token, waiting included, in ms."
    )
    load: LoadSpec = Field(
        default_factory=LoadSpec, description="The load it serves; units as in its fields."
    )
    variants: Annotated[tuple[VariantSpec, ...], Unique(("accelerator",))] | None = Field(
        None,
        description=(
            "Where it runs on several accelerators, all of them, the largest share first, which"
            " the other fields are about; units as in their fields."
        ),
    )
    total_replicas: TotalCount | None = Field(
        None,
        alias="totalReplicas",
        description="Replicas of all variants together, a count; told, not read.",
    )
    total_cost: Total | None = Field(
        None,
        alias="totalCost",
        description="Cost of all variants together, in cents/hour; told, not read.",
    )
    itl_percentile: TailSpec | None = Field(
        None,
        alias="itlPercentile",
        description="The percentile that its slo-itl is of, in ms, beside the mean; told, not"
        " read.",
    )
    ttft_percentile: TailSpec | None = Field(
        None,
        alias="ttftPercentile",
        description="The percentile that its slo-ttft is of, in ms, beside the mean; told, not"
        " read.",
    )


class ServerSpec(Form):
    """One inference server: one model in one class of service."""

    name: Name = Field(description="Name of the server, without unit; unique.")
    service_class: Annotated[Text, AfterValidator(lambda value: value or DEFAULT_CLASS)] = Field(
        DEFAULT_CLASS,
        alias="class",
        description=f'Name of its class, without unit; "" or missing is {DEFAULT_CLASS}.',
    )
    model: Name = Field(description="Name of its model, without unit.")
    keep_accelerator: Flag = Field(
        default=False,
        alias="keepAccelerator",
        description="Whether it stays on its accelerator, true or false.",
    )
    min_num_replicas: TotalCount = Field(
        0, alias="minNumReplicas", description="Fewest replicas, a count from 0."
    )
    max_batch_size: Count = Field(
        0,
        alias="maxBatchSize",
        description="Requests that one replica serves at once, a count; 0 is by performance data.",
    )
    current_alloc: AllocationData = Field(
        default_factory=AllocationData,
        alias="currentAlloc",
        description="What it runs on now, and its load; units as in its fields.",
    )
    desired_alloc: AllocationData | None = Field(
        None,
        alias="desiredAlloc",
        description="What it should run on; units as in its fields.",
    )


class ServerData(Form):
    """All servers."""

    servers: Annotated[tuple[ServerSpec, ...], Unique(("name",))] = Field(
        description="The servers, a list."
    )
