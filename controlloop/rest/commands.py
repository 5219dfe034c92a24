"""The table of all commands: verb, path, what comes in, what is done, what goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from controlloop.api.json_text import parse_json
from controlloop.api.reading import read_json, read_optimizer
from controlloop.api.specs import (
    AcceleratorCount,
    AcceleratorData,
    AcceleratorSpec,
    AllocationSolution,
    CapacityData,
    Form,
    ModelAcceleratorPerfData,
    ModelData,
    ModelTarget,
    OptimizerData,
    OptimizerSpec,
    ServerData,
    ServerSpec,
    ServiceClassData,
    ServiceClassSpec,
    SystemData,
)
from controlloop.rest import allocations, demand, supply
from controlloop.rest.state import State


class Kind(Enum):
    """What a command does with the state.

    OPTIMIZE works on what the server holds, OPTIMIZE_ONE on a system that it is given whole.
    """

    READ = "read"
    CHANGE = "change"
    OPTIMIZE = "optimize"
    OPTIMIZE_ONE = "optimize-one"


@dataclass(frozen=True, slots=True)
class Body:
    """What a command takes in: how it is read from JSON text, and which forms it may have."""

    read: Callable[[bytes], Any]
    forms: tuple[type[Form], ...]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    `act` takes the state and the argument (the body, or what the path names) and gives the new
    state and the answer; of OPTIMIZE and OPTIMIZE_ONE the state to optimize and the flags.
    `answer` None is a list of names.
    """

    verb: str
    path: str
    kind: Kind
    act: Callable[[State, Any], tuple[State, Any]]
    answer: type[Form] | None
    body: Body | None = None

    @property
    def needs_full(self) -> bool:
        """Whether only a stateful server has it."""
        return self.kind in {Kind.CHANGE, Kind.OPTIMIZE}

    @property
    def optimizes(self) -> bool:
        """Whether it optimizes; then its query may ask for explanations."""
        return self.kind in {Kind.OPTIMIZE, Kind.OPTIMIZE_ONE}

    @property
    def name(self) -> str:
        """The first part of its path."""
        return self.path.split("/")[1]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(part.strip("{}") for part in self.path.split("/")[2:])

    @property
    def summary(self) -> str:
        """What it does, in words."""
        return str(self.act.__doc__).partition("\n")[0]


def _of(form: type[Form]) -> Body:
    return Body(partial(read_json, form), (form,))


def _flags(text: bytes) -> OptimizerSpec:
    return read_optimizer(parse_json(text))


def _get(
    path: str,
    act: Callable[[State, Any], tuple[State, Any]],
    answer: type[Form] | None,
    kind: Kind = Kind.READ,
) -> Command:
    return Command("GET", path, kind, act, answer)


def _change(
    path: str, act: Callable[[State, Any], tuple[State, Any]], answer: type[Form]
) -> Command:
    return _get(path, act, answer, Kind.CHANGE)


def _post(path: str, act: Callable[[State, Any], tuple[State, Any]], form: type[Form]) -> Command:
    return Command("POST", path, Kind.CHANGE, act, form, _of(form))


_MODEL_ACC: Final = "ModelAcceleratorPerf/{model}/{acc}"
_CLASS_MODEL: Final = "ServiceClassModelTarget/{class}/{model}"

COMMANDS: Final[tuple[Command, ...]] = (
    _post("/setAccelerators", supply.set_accelerators, AcceleratorData),
    _get("/getAccelerators", supply.get_accelerators, AcceleratorData),
    _get("/getAccelerator/{name}", supply.get_accelerator, AcceleratorSpec),
    _post("/addAccelerator", supply.add_accelerator, AcceleratorSpec),
    _change("/removeAccelerator/{name}", supply.remove_accelerator, AcceleratorSpec),
    _post("/setCapacities", supply.set_capacities, CapacityData),
    _get("/getCapacities", supply.get_capacities, CapacityData),
    _get("/getCapacity/{type}", supply.get_capacity, AcceleratorCount),
    _post("/setCapacity", supply.set_capacity, AcceleratorCount),
    _change("/removeCapacity/{type}", supply.remove_capacity, AcceleratorCount),
    _post("/setModels", supply.set_models, ModelData),
    _get("/getModels", supply.get_models, None),
    _get("/getModel/{name}", supply.get_model, ModelData),
    _change("/addModel/{name}", supply.add_model, ModelData),
    _change("/removeModel/{name}", supply.remove_model, ModelData),
    _post("/setServiceClasses", demand.set_classes, ServiceClassData),
    _get("/getServiceClasses", demand.get_classes, ServiceClassData),
    _get("/getServiceClass/{name}", demand.get_class, ServiceClassSpec),
    _change("/addServiceClass/{name}/{priority}", demand.add_class, ServiceClassSpec),
    _change("/removeServiceClass/{name}", demand.remove_class, ServiceClassSpec),
    _post("/addServiceClassModelTargets", demand.add_targets, ServiceClassSpec),
    _get(f"/get{_CLASS_MODEL}", demand.get_target, ModelTarget),
    _change(f"/remove{_CLASS_MODEL}", demand.remove_target, ModelTarget),
    _post("/setServers", demand.set_servers, ServerData),
    _get("/getServers", demand.get_servers, ServerData),
    _get("/getServer/{name}", demand.get_server, ServerSpec),
    _post("/addServer", demand.add_server, ServerSpec),
    _change("/removeServer/{name}", demand.remove_server, ServerSpec),
    _get(f"/get{_MODEL_ACC}", supply.get_perf, ModelAcceleratorPerfData),
    _post("/addModelAcceleratorPerf", supply.add_perf, ModelAcceleratorPerfData),
    _change(f"/remove{_MODEL_ACC}", supply.remove_perf, ModelAcceleratorPerfData),
    Command(
        "POST",
        "/optimize",
        Kind.OPTIMIZE,
        allocations.of_state,
        AllocationSolution,
        Body(_flags, (OptimizerSpec, OptimizerData)),
    ),
    Command(
        "POST",
        "/optimizeOne",
        Kind.OPTIMIZE_ONE,
        allocations.of_system,
        AllocationSolution,
        _of(SystemData),
    ),
    _change("/applyAllocation", allocations.apply_allocation, ServerData),
)
