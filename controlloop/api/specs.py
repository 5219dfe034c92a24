"""The documented JSON forms of the optimizer, by name.

Extra fields of ours, all optional: performance data `queueModel` and `parameters`, optimizer
`solver`, `objective`, `energyPrice`, `timeLimit` and `gap`, `variants` of an allocation with
`totalReplicas` and `totalCost`, and `unserved`, `power`, `solver` and `explanations` of a solution.
Of percentiles and uncertainty: `slo-itl-percentile` and `slo-ttft-percentile` of a target,
`itlPercentile` and `ttftPercentile` of an allocation, `logCovariance` of performance data and
`confidence` of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from controlloop.api.solution import SolveStatus, UnservedReason
from controlloop.api.spec_types import (
    AnyNumber,
    Confidence,
    Flag,
    Form,
    Fraction,
    Name,
    Quantity,
    Text,
    TimeLimit,
    Total,
)
from controlloop.api.specs_demand import (
    AllocationData,
    LoadSpec,
    ModelTarget,
    ServerData,
    ServerSpec,
    ServiceClassData,
    ServiceClassSpec,
    TailSpec,
    VariantSpec,
)
from controlloop.api.specs_supply import (
    AcceleratorCount,
    AcceleratorData,
    AcceleratorSpec,
    CapacityData,
    DecodeParms,
    ModelAcceleratorPerfData,
    ModelData,
    PowerSpec,
    PrefillParms,
)
from controlloop.api.system import Objective, SaturationPolicy

__all__ = [
    "FORMS",
    "AcceleratorCount",
    "AcceleratorData",
    "AcceleratorSpec",
    "AllocationData",
    "AllocationSolution",
    "CapacityData",
    "DecodeParms",
    "Form",
    "LoadSpec",
    "ModelAcceleratorPerfData",
    "ModelData",
    "ModelTarget",
    "OptimizerData",
    "OptimizerSpec",
    "PowerPrediction",
    "PowerSpec",
    "PrefillParms",
    "ServerData",
    "ServerSpec",
    "ServiceClassData",
    "ServiceClassSpec",
    "SolverReport",
    "SystemData",
    "SystemSpec",
    "TailSpec",
    "UnservedSpec",
    "VariantSpec",
]


class OptimizerSpec(Form):
    """How to optimize."""

    unlimited: Flag = Field(
        default=False, description="Whether capacity is taken as unlimited, true or false."
    )
    heterogeneous: Flag = Field(
        default=False,
        description="Whether one server may run on several accelerators, true or false.",
    )
    milp_solver: Flag = Field(
        default=False,
        alias="milpSolver",
        description="Whether to solve exactly instead of greedily, true or false.",
    )
    use_cplex: Flag = Field(
        default=False,
        alias="useCplex",
        description="Whether the exact solver is CPLEX, true or false.",
    )
    delayed_best_effort: Flag = Field(
        default=False,
        alias="delayedBestEffort",
        description="Whether best effort waits until all priorities are done, true or false.",
    )
    saturation_policy: Annotated[
        SaturationPolicy, BeforeValidator(lambda value: value if value != "" else "None")
    ] = Field(
        SaturationPolicy.NONE,
        alias="saturationPolicy",
        description="What a server gets that does not fit whole, a name without unit.",
    )
    solver: Name | None = Field(
        None,
        description="Name of the solver, without unit; where given, the flags do not choose one.",
    )
    objective: Objective | None = Field(
        None,
        description="What is made least: cost, power or weighted, a name; missing is cost.",
    )
    energy_price: Quantity | None = Field(
        None,
        alias="energyPrice",
        validate_default=True,
        description=(
            "Price of energy, in cents/kWh, that the objective weighted adds to the cost; for the"
            " others missing is right."
        ),
    )

    time_limit: TimeLimit | None = Field(
        None,
        alias="timeLimit",
        description=(
            "Time after which an exact solver ends with the best answer found, in s; missing is"
            " that of the settings, 10 where they say nothing."
        ),
    )
    gap: Fraction | None = Field(
        None,
        description=(
            "Gap to the best possible at which an exact solver may end, a fraction of the total"
            " value from 0 (proof) to 1; missing is that of the settings, 0 where they say"
            " nothing."
        ),
    )

    confidence: Confidence | None = Field(
        None,
        description=(
            "Probability with which latency targets are to hold whatever the parameters are, a"
            " fraction from 0.5 to below 1, where logCovariance is known; 0 or missing plans with"
            " the parameters as they are."
        ),
    )

    @field_validator("energy_price", mode="after")
    @classmethod
    def _known_where_it_counts(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None and info.data.get("objective") is Objective.WEIGHTED:
            raise PydanticCustomError("rule", "is required where objective is weighted")
        return value


class OptimizerData(Form):
    """The flags of the optimizer in their wrapper."""

    optimizer: OptimizerSpec = Field(description="How to optimize, an object without unit.")


class SystemSpec(Form):
    """Everything the optimizer is told, each part as in its own file."""

    accelerator_data: AcceleratorData = Field(
        alias="acceleratorData", description="The accelerators; units as in its fields."
    )
    capacity_data: CapacityData = Field(
        default=CapacityData(count=()),
        alias="capacityData",
        description="Cards by type; missing is none, which only unlimited solving can do with.",
    )
    model_data: ModelData = Field(
        alias="modelData", description="The performance data; units as in its fields."
    )
    service_class_data: ServiceClassData = Field(
        alias="serviceClassData", description="The classes of service; units as in its fields."
    )
    server_data: ServerData = Field(
        default=ServerData(servers=()),
        alias="serverData",
        description="The servers; units as in its fields.",
    )
    optimizer_data: OptimizerData = Field(
        default=OptimizerData(optimizer=OptimizerSpec()),
        alias="optimizerData",
        description="How to optimize; missing is greedy without best effort.",
    )


class SystemData(Form):
    """The system in its wrapper."""

    system: SystemSpec = Field(description="The system; units as in its fields.")


class UnservedSpec(Form):
    """Why a server got nothing, or less than its load needs."""

    reason: UnservedReason = Field(description="The kind of reason, a name without unit.")
    detail: Text = Field("", description="The reason in words, a text without unit.")


class PowerPrediction(Form):
    """The power that allocations are predicted to draw."""

    total: Total = Field(description="Power of all `servers` together, in W.")
    servers: dict[str, Total] = Field(
        description="Power by server name, in W; where its accelerator has no power data, none."
    )


class SolverReport(Form):
    """How an answer was found."""

    asked: Text = Field(description="The solver that was asked for, a name without unit.")
    used: Text = Field(description="The solver that answered, a name without unit.")
    status: SolveStatus = Field(
        description="How far it got, a name without unit: optimal only where that is proven."
    )
    value: AnyNumber | None = Field(
        None, description="Total value of the answer, in the unit of the objective."
    )
    bound: AnyNumber | None = Field(
        None,
        description=(
            "No answer that serves as many servers has less, in the unit of value; missing is"
            " not known."
        ),
    )
    gap: Total | None = Field(
        None,
        description="Distance of value and bound, a fraction of value; missing is not known.",
    )
    seconds: Total = Field(description="What it took, in s.")
    message: Text = Field(
        "",
        description=(
            "What there is to know of it, such as that another solver stood in; words, without"
            " unit."
        ),
    )


class AllocationSolution(Form):
    """What the optimizer answers."""

    allocations: dict[str, AllocationData] = Field(
        description="Allocations by server name; units as in their fields."
    )
    unserved: dict[str, UnservedSpec] | None = Field(
        None,
        description="Who is not served whole and why, by server name; missing is nobody.",
    )
    power: PowerPrediction | None = Field(
        None,
        description="Predicted power, its fields in W; missing is not known of any server.",
    )
    solver: SolverReport | None = Field(
        None,
        description=(
            "How the answer was found; missing where the solver asked for did all that was asked"
            " of it, unless it is asked for; units as in its fields."
        ),
    )
    explanations: dict[str, dict[str, Any]] | None = Field(
        None,
        description=(
            "Why servers got what they got, by server name, as `controlloop explain` tells it;"
            " missing is not asked for."
        ),
    )


FORMS: Final[Mapping[str, type[Form]]] = MappingProxyType(
    {
        form.__name__: form
        for form in (
            AcceleratorSpec,
            AcceleratorData,
            AcceleratorCount,
            CapacityData,
            ModelAcceleratorPerfData,
            ModelData,
            ModelTarget,
            ServiceClassSpec,
            ServiceClassData,
            LoadSpec,
            AllocationData,
            ServerSpec,
            ServerData,
            OptimizerSpec,
            OptimizerData,
            SystemData,
            AllocationSolution,
        )
    }
)
