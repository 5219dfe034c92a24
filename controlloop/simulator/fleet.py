"""The demo's fleet: the sample system that ships with the package, under a day of traffic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import Field

from controlloop.api.convert import system_from_spec
from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.files import read_folder
from controlloop.api.reading import UnknownKeys, read_json
from controlloop.api.replicas import FloatArray
from controlloop.api.spec_types import Form, Fraction, Name, Quantity, Unique
from controlloop.api.system import Server, System
from controlloop.errors import ControlLoopError
from controlloop.protocols import Optimizer
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.traffic import DayCurve

DATA: Final = Path(__file__).with_name("data")
TRAFFIC_FILE: Final = "traffic-data.json"
LEAST_REPLICAS: Final = 1
# Seconds from cards to the first request, where nothing else is said.
STARTUP_S: Final = 120.0


class FleetError(ControlLoopError):
    """A fleet that cannot run: its peak load does not fit on the cards there are."""


class ServerTraffic(Form):
    """How one server's load moves over a day, and how fast it can follow."""

    name: Name = Field(description="Name of the server, without unit.")
    peak_hour: Annotated[Quantity, Field(le=24)] = Field(
        alias="peakHour", description="Hour of the day of the greatest load, 0 to 24."
    )
    peak: Quantity = Field(description="Greatest mean rate, in multiples of the server's load.")
    trough: Quantity = Field(description="Least mean rate, in multiples of the server's load.")
    sharpness: Quantity = Field(
        1.0, description="Above 1 narrows the peak, below 1 broadens it; without unit."
    )
    noise: Fraction = Field(
        0.0, description="Relative standard deviation of the rate's slow wander."
    )
    startup_s: Quantity = Field(
        alias="startupSeconds", description="Time from cards to the first request, in s."
    )


class TrafficData(Form):
    """The traffic of every server of the fleet, and how its engines truly are."""

    true_times: Annotated[Quantity, Field(gt=0)] = Field(
        1.0,
        alias="trueTimes",
        description="What engines truly take, in multiples of what the model data says.",
    )
    servers: Annotated[tuple[ServerTraffic, ...], Unique(("name",))] = Field(
        description="One entry a server."
    )


@dataclass(frozen=True, slots=True)
class Fleet:
    """A system and the traffic of its servers; `traffic` is in the order of `servers`.

    `true_times` are the engines' times, in multiples of those that the catalog says.
    """

    catalog: System
    servers: tuple[Server, ...]
    traffic: tuple[ServerTraffic, ...]
    true_times: float = 1.0

    @property
    def truth(self) -> System:
        """The catalog with the parameters that the engines truly have."""
        perf = tuple(
            replace(one, parameters=tuple(self.true_times * time for time in one.parameters))
            for one in self.catalog.perf
        )
        return replace(self.catalog, perf=perf)

    @property
    def curves(self) -> tuple[DayCurve, ...]:
        """The day of each server."""
        return tuple(
            DayCurve(
                trough_rps=one.trough * server.current.load.rate_rps,
                peak_rps=one.peak * server.current.load.rate_rps,
                peak_hour=one.peak_hour,
                sharpness=one.sharpness,
                noise=one.noise,
            )
            for server, one in zip(self.servers, self.traffic, strict=True)
        )


def read_fleet(folder: Path = DATA) -> Fleet:
    """The fleet whose six files and traffic lie in `folder`; without traffic it is steady.

    Raises:
        InputError: every problem of the files.
        FleetError: a server without traffic, or traffic without a server.

    """
    system = system_from_spec(read_folder(folder))
    path = folder / TRAFFIC_FILE
    servers = tuple(sorted(system.servers, key=lambda server: server.name))
    data = _traffic(path) if path.exists() else _steady(servers)
    of_name = {entry.name: entry for entry in data.servers}
    strangers = sorted(of_name.keys() ^ {server.name for server in servers})
    if strangers:
        raise FleetError(f"{path}: servers and traffic do not agree about {', '.join(strangers)}")
    traffic = tuple(of_name[server.name] for server in servers)
    return Fleet(replace(system, servers=()), servers, traffic, data.true_times)


def _traffic(path: Path) -> TrafficData:
    return read_json(TrafficData, path.read_bytes(), unknown=UnknownKeys.REJECT, source=str(path))


def _steady(servers: tuple[Server, ...]) -> TrafficData:
    entries = [
        {"name": one.name, "peakHour": 0, "peak": 1, "trough": 1, "startupSeconds": STARTUP_S}
        for one in servers
    ]
    return TrafficData.model_validate({"servers": entries})


def fleet_at(fleet: Fleet, rates_rps: FloatArray, optimizer: Optimizer) -> tuple[PlantServer, ...]:
    """The fleet as the optimizer would run it at these rates: (servers,) in requests/s.

    Raises:
        FleetError: a server's load cannot be served whole on the cards there are.

    """
    servers = tuple(
        replace(
            server,
            min_replicas=max(server.min_replicas, LEAST_REPLICAS),
            current=replace(
                server.current,
                load=replace(server.current.load, rate_rps=float(rate)),
            ),
        )
        for server, rate in zip(fleet.servers, rates_rps, strict=True)
    )
    problem = Problem(
        replace(fleet.catalog, servers=servers),
        {server.name: ServerConstraint(min_replicas=LEAST_REPLICAS) for server in servers},
        MappingProxyType({}),
    )
    solution = optimizer.solve(problem)
    if solution.unserved:
        reasons = "; ".join(f"{entry.server}: {entry.detail}" for entry in solution.unserved)
        raise FleetError(f"the fleet cannot serve this load: {reasons}")
    return tuple(
        PlantServer(
            name=server.name,
            model=server.model,
            service_class=server.service_class,
            accelerator=solution.allocations[server.name].accelerator,
            max_batch=solution.allocations[server.name].max_batch,
            replicas=solution.allocations[server.name].replicas,
            input_tokens=server.current.load.input_tokens,
            output_tokens=server.current.load.output_tokens,
            startup_s=entry.startup_s,
            min_replicas=LEAST_REPLICAS,
        )
        for server, entry in zip(servers, fleet.traffic, strict=True)
    )
