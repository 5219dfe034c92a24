"""All data of the optimizer's server as one immutable value, and its only holder.

A reader takes one reference and so never sees half a change; writers come one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from controlloop.api.specs import (
    AcceleratorCount,
    AcceleratorData,
    AcceleratorSpec,
    CapacityData,
    ModelAcceleratorPerfData,
    ModelData,
    OptimizerData,
    OptimizerSpec,
    ServerData,
    ServerSpec,
    ServiceClassData,
    ServiceClassSpec,
    SystemSpec,
)
from controlloop.rest.tables import empty, table

Answer = TypeVar("Answer")
PerfByAccelerator = Mapping[str, ModelAcceleratorPerfData]


@dataclass(frozen=True, slots=True)
class State:
    """Everything by name, in the order in which it came. A model may be without data."""

    accelerators: Mapping[str, AcceleratorSpec] = field(default_factory=empty)
    capacities: Mapping[str, AcceleratorCount] = field(default_factory=empty)
    models: Mapping[str, PerfByAccelerator] = field(default_factory=empty)
    classes: Mapping[str, ServiceClassSpec] = field(default_factory=empty)
    servers: Mapping[str, ServerSpec] = field(default_factory=empty)

    @classmethod
    def of(cls, system: SystemSpec) -> State:
        """The state that holds `system`, without its flags of the optimizer."""
        return cls(
            accelerators=table((each.name, each) for each in system.accelerator_data.accelerators),
            capacities=table((each.type, each) for each in system.capacity_data.count),
            models=models_of(system.model_data),
            classes=table((each.name, each) for each in system.service_class_data.service_classes),
            servers=table((each.name, each) for each in system.server_data.servers),
        )

    def system(self, flags: OptimizerSpec) -> SystemSpec:
        """The documented form of all of it, to be optimized as `flags` say."""
        return SystemSpec(
            accelerator_data=self.accelerator_data,
            capacity_data=self.capacity_data,
            model_data=self.model_data,
            service_class_data=self.class_data,
            server_data=self.server_data,
            optimizer_data=OptimizerData(optimizer=flags),
        )

    @property
    def accelerator_data(self) -> AcceleratorData:
        """The accelerators in their form."""
        return AcceleratorData(accelerators=tuple(self.accelerators.values()))

    @property
    def capacity_data(self) -> CapacityData:
        """The capacities in their form."""
        return CapacityData(count=tuple(self.capacities.values()))

    @property
    def model_data(self) -> ModelData:
        """The performance data of all models in its form."""
        pairs = (
            perf for by_accelerator in self.models.values() for perf in by_accelerator.values()
        )
        return ModelData(models=tuple(pairs))

    @property
    def class_data(self) -> ServiceClassData:
        """The classes of service in their form."""
        return ServiceClassData(service_classes=tuple(self.classes.values()))

    @property
    def server_data(self) -> ServerData:
        """The servers in their form."""
        return ServerData(servers=tuple(self.servers.values()))


def models_of(data: ModelData) -> Mapping[str, PerfByAccelerator]:
    """Performance data by model, then by accelerator."""
    models: dict[str, dict[str, ModelAcceleratorPerfData]] = {}
    for each in data.models:
        models.setdefault(each.name, {})[each.acc] = each
    return table((name, table(perf.items())) for name, perf in models.items())


class Store:
    """Holds the state of a running server.

    Args:
        state: what it holds first.
        keep: called with each new state before it takes effect; if it raises, nothing changes.

    """

    def __init__(self, state: State, keep: Callable[[State], None] | None = None) -> None:
        self._now = state
        self._keep = keep
        self._writing = threading.Lock()

    @property
    def now(self) -> State:
        """The state as it is, whole."""
        return self._now

    def change(self, act: Callable[[State], tuple[State, Answer]]) -> Answer:
        """Put what `act` makes of the state in its place, and give its answer.

        What `act` or keeping raises goes to the caller, and the state stays as it was.
        """
        with self._writing:
            state, answer = act(self._now)
            if self._keep is not None and state is not self._now:
                self._keep(state)
            self._now = state
        return answer
