"""A small plant to try things on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from controlloop.api.system import (
    Accelerator,
    PerfParameters,
    ServiceClass,
    System,
    Target,
)
from controlloop.queueing.models import queue_models
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.traffic import Traffic

STEP_S = 10.0


@pytest.fixture(scope="session")
def catalog() -> System:
    """Two card types; one replica of `big` takes two cards."""
    return System(
        accelerators=(
            Accelerator("A100", "A100", cost_per_hour=100.0),
            Accelerator("2xH100", "H100", multiplicity=2, cost_per_hour=500.0),
        ),
        capacity={"A100": 8, "H100": 8},
        perf=(
            PerfParameters("small", "A100", (11.0, 0.2, 60.0, 0.005), 64, 256),
            PerfParameters("big", "2xH100", (14.0, 0.12, 48.0, 0.0033), 64, 256),
        ),
        classes=(
            ServiceClass(
                "Premium", 1, (Target("small", 25.0, 1000.0), Target("big", 45.0, 2000.0))
            ),
        ),
    )


@pytest.fixture(scope="session")
def small() -> PlantServer:
    return PlantServer("small", "small", "Premium", "A100", 64, 2, 512.0, 256.0, startup_s=60.0)


@pytest.fixture(scope="session")
def big() -> PlantServer:
    return PlantServer("big", "big", "Premium", "2xH100", 64, 2, 512.0, 256.0, startup_s=120.0)


PlantMaker = Callable[..., FluidPlant]


@pytest.fixture(scope="session")
def make_plant(catalog: System) -> PlantMaker:
    """Builds a plant from its servers and the arrivals of each step: (steps, servers)."""

    def make(servers: tuple[PlantServer, ...], arrivals: object) -> FluidPlant:
        counts = np.array(arrivals, dtype=np.float64)
        traffic = Traffic(STEP_S, counts / STEP_S, counts)
        return FluidPlant(catalog, servers, traffic, queue_models().create)

    return make
