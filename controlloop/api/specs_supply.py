"""JSON forms of what there is to run on: accelerators, capacity, performance data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from controlloop.api.covariance import is_covariance
from controlloop.api.spec_types import (
    Count,
    CountOrOne,
    Form,
    Fraction,
    Name,
    Number,
    PositiveCount,
    PositiveQuantity,
    Quantity,
    Unique,
)
from controlloop.api.system import DEFAULT_PARAMETER_NAMES, DEFAULT_QUEUE_MODEL


class PowerSpec(Form):
    """Power drawn by one unit of an accelerator, piecewise linear in its utilization."""

    idle: Quantity = Field(0.0, description="Power at idle, in W.")
    full: Quantity = Field(0.0, description="Power at full utilization, in W.")
    mid_power: Quantity = Field(
        0.0, alias="midPower", description="Power at the utilization midUtil, in W."
    )
    mid_util: Fraction = Field(
        0.0, alias="midUtil", description="Utilization of the bend, a fraction from 0 to 1."
    )


class AcceleratorSpec(Form):
    """A named unit of allocation: so many cards of one type, at a cost."""

    name: Name = Field(description="Name of the unit, without unit; unique.")
    type: Name = Field(description="Type of its cards, a name without unit.")
    multiplicity: PositiveCount = Field(1, description="Cards in one unit, a count from 1.")
    mem_size: Quantity = Field(
        0.0, alias="memSize", description="Memory of the whole unit, in GB; for information."
    )
    mem_bw: Quantity = Field(
        0.0,
        alias="memBW",
        description="Memory bandwidth of the whole unit, in GB/s; for information.",
    )
    power: PowerSpec = Field(
        default_factory=PowerSpec, description="Power of the whole unit, its fields in W."
    )
    cost: Quantity = Field(description="Cost of one unit, in cents/hour.")


class AcceleratorData(Form):
    """All accelerators; their order breaks ties between equally good ones."""

    accelerators: Annotated[tuple[AcceleratorSpec, ...], Unique(("name",))] = Field(
        description="The accelerators, a list in order of preference."
    )


class AcceleratorCount(Form):
    """How many cards of one type there are."""

    type: Name = Field(description="Type of the cards, a name without unit; unique.")
    count: Count = Field(description="Cards that may be used, a count from 0.")


class CapacityData(Form):
    """Cards of every type; a type that is not named has none."""

    count: Annotated[tuple[AcceleratorCount, ...], Unique(("type",))] = Field(
        description="Cards by type, a list."
    )


class DecodeParms(Form):
    """Decode: one iteration with n requests takes alpha + beta n."""

    alpha: PositiveQuantity = Field(description="Base time of a decode iteration, in ms, > 0.")
    beta: Quantity = Field(description="Added time per request in the batch, in ms.")


class PrefillParms(Form):
    """Prefill: with n requests of k input tokens it takes gamma + delta k n."""

    gamma: Quantity = Field(description="Base time of a prefill, in ms.")
    delta: Quantity = Field(description="Added time per input token and request, in ms.")


class ModelAcceleratorPerfData(Form):
    """How one model performs on one accelerator."""

    name: Name = Field(description="Name of the model, without unit.")
    acc: Name = Field(description="Name of the accelerator, without unit.")
    acc_count: CountOrOne = Field(
        1,
        alias="accCount",
        description="Accelerators of one replica, a count; 0 or missing is 1.",
    )
    max_batch_size: PositiveCount = Field(
        alias="maxBatchSize",
        description="Requests served at once at most when each has atTokens tokens, a count.",
    )
    at_tokens: PositiveCount = Field(
        alias="atTokens",
        description="Tokens of a request at which maxBatchSize was found, a count.",
    )
    queue_model: Name | None = Field(
        None,
        alias="queueModel",
        description=(
            "Name of the queue model, without unit; missing is the one of the settings, "
            f"{DEFAULT_QUEUE_MODEL} where they name none."
        ),
    )
    parameters: dict[str, Number] | None = Field(
        None,
        min_length=1,
        validate_default=True,
        description=(
            "Parameters of a queue model other than state-dependent, by name, in the order and"
            " the units (part of the name, alpha_ms) that the model documents; instead of"
            " decodeParms and prefillParms."
        ),
    )
    decode_parms: DecodeParms | None = Field(
        None,
        alias="decodeParms",
        validate_default=True,
        description="Decode parameters, in ms; needed where parameters is not given.",
    )
    prefill_parms: PrefillParms | None = Field(
        None,
        alias="prefillParms",
        validate_default=True,
        description="Prefill parameters, in ms; needed where parameters is not given.",
    )

    log_covariance: tuple[tuple[Number, ...], ...] | None = Field(
        None,
        alias="logCovariance",
        description=(
            "How sure the parameters are: covariance of their logarithms, without unit, a list of"
            " rows in the order of the parameters (alpha, beta, gamma, delta); missing is not"
            " known."
        ),
    )

    @field_validator("parameters", mode="after")
    @classmethod
    def _of_another_model(
        cls, value: dict[str, float] | None, info: ValidationInfo
    ) -> dict[str, float] | None:
        model = info.data.get("queue_model", "")
        if value is not None and model == DEFAULT_QUEUE_MODEL:
            raise PydanticCustomError(
                "rule",
                "is for other queue models; state-dependent takes decodeParms and prefillParms",
            )
        return value

    @field_validator("decode_parms", "prefill_parms", mode="after")
    @classmethod
    def _one_of_both(cls, value: Form | None, info: ValidationInfo) -> Form | None:
        if "parameters" not in info.data:
            return value
        if info.data["parameters"] is None and value is None:
            raise PydanticKnownError("missing")
        if info.data["parameters"] is not None and value is not None:
            raise PydanticCustomError("rule", "must not be given together with parameters")
        return value

    @field_validator("log_covariance", mode="after")
    @classmethod
    def _is_a_covariance(
        cls, value: tuple[tuple[float, ...], ...] | None, info: ValidationInfo
    ) -> tuple[tuple[float, ...], ...] | None:
        parameters = info.data.get("parameters")
        size = len(DEFAULT_PARAMETER_NAMES) if parameters is None else len(parameters)
        if value is not None and not is_covariance(value, size):
            raise PydanticCustomError(
                "rule",
                "must be a covariance: {size} rows of {size} numbers, symmetric, without negative"
                " eigenvalues",
                {"size": size},
            )
        return value


class ModelData(Form):
    """Performance data of every (model, accelerator) pair."""

    models: Annotated[tuple[ModelAcceleratorPerfData, ...], Unique(("name", "acc"))] = Field(
        description="The performance data, a list with one entry a pair."
    )
