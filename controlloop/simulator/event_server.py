"""One inference server of the event plant: its replicas' lives, and the engines they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from controlloop.api.observation import Workload
from controlloop.api.system import System
from controlloop.simulator.deployment import pair_of, replica_set_of, workload_of
from controlloop.simulator.engine.layout import Router
from controlloop.simulator.engine.server import ServerEngines
from controlloop.simulator.engine.times import (
    DEFAULT_TOKEN_BUDGET,
    engine_numbers,
    noise_factors,
)
from controlloop.simulator.plant import Meter, PlantServer, TokenMeter
from controlloop.simulator.replicas import Phase, Replica, ReplicaSet
from controlloop.simulator.workloads.requests import Requests, RequestStream
from controlloop.simulator.workloads.requests import Workload as Arrivals
from controlloop.units import ms_from_s

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Startup:
    """How long replicas of a pair take to start: a lognormal law.

    Attributes:
        mean_s: seconds from cards to the first request.
        cv: coefficient of variation; 0 is the mean always.

    """

    mean_s: float
    cv: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How engines and their surroundings are, beside their performance parameters.

    Attributes:
        noise: relative standard deviation of an iteration's time.
        router: how requests find a replica.
        token_budget: tokens that an iteration computes at most.
        kv_tokens: tokens that the cache of a (model, accelerator) holds; others have the limit
            that their parameters name, or none.
        startup_cv: coefficient of variation of the start-up time that a server names.
        startup: start-up times of a (model, accelerator), instead of the server's own.

    """

    noise: float = 0.05
    router: Router = Router.LEAST_LOADED
    token_budget: int = DEFAULT_TOKEN_BUDGET
    kv_tokens: Mapping[Pair, int] = field(default_factory=dict)
    startup_cv: float = 0.0
    startup: Mapping[Pair, Startup] = field(default_factory=dict)


@dataclass(slots=True)
class EventServer:
    """A server as engines and their requests. `rows` are the engines of replicas by name."""

    spec: PlantServer
    replicas: ReplicaSet
    engines: ServerEngines
    stream: RequestStream
    start: float
    version: int = 1
    arrived: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def resource_version(self) -> str:
        """Changes with every change of the server."""
        return str(self.version)

    @property
    def in_system(self) -> int:
        """Every request inside."""
        return self.engines.running + self.engines.waiting

    def next_ready(self) -> float:
        """When the next replica has started; infinite where none is starting."""
        starting = (one.until for one in self.replicas.members if one.phase is Phase.STARTING)
        return min(starting, default=np.inf)

    def advance(self, until: float, *, arrivals: bool = True) -> None:
        """Go on to `until`, with or without what arrives before it."""
        requests = self.stream.take(until - self.start) if arrivals else Requests.none()
        self.arrived += len(requests)
        moved = Requests(
            requests.times_s + self.start, requests.input_tokens, requests.output_tokens
        )
        self.engines.advance(moved, until)

    def settle(self, now: float) -> None:
        """Replicas that have started serve; drained ones are gone."""
        for one in self.replicas.members:
            row = self.rows.get(one.name)
            if one.phase is Phase.DRAINING and row is not None and self.engines.is_empty(row):
                self._stop(one, now)
        self.replicas.settle(now)
        for one in self.replicas.members:
            if one.phase is Phase.READY and one.name not in self.rows:
                self.rows[one.name] = self.engines.add(now)

    def scale(self, replicas: int, now: float) -> None:
        """Ask for new replicas, or take surplus ones away; a ready one finishes its requests."""
        self.version += 1
        self.replicas.wanted = replicas
        for one in self.replicas.surplus():
            row = self.rows.get(one.name)
            one.enter(Phase.DRAINING, now, now if row is None else np.inf)
            if row is not None:
                self.engines.drain(row)
        self.settle(now)
        self.replicas.fill(now)

    def kill(self, one: Replica, now: float) -> None:
        """The replica dies; the Deployment asks for another one."""
        one.enter(Phase.DRAINING, now, now)
        self._stop(one, now)
        self.replicas.settle(now)
        self.replicas.fill(now)

    def meter(self, now: float) -> Meter:
        """What the engines count."""
        counts = self.engines.counts()
        return Meter(
            time=now,
            arrived=float(self.arrived),
            completed=counts.completed,
            served=counts.completed,
            ttft_ms_sum=ms_from_s(counts.done_ttft_s),
            itl_ms_sum=ms_from_s(counts.itl_s),
            running=float(self.engines.running),
            waiting=float(self.engines.waiting),
            tokens=TokenMeter(
                first_tokens=counts.first_tokens,
                ttft_ms_sum=ms_from_s(counts.ttft_s),
                gaps=counts.gaps,
                gaps_ms_sum=ms_from_s(counts.gaps_s),
                input_tokens=counts.input_tokens,
                output_tokens=counts.output_tokens,
            ),
        )

    def workload(self) -> Workload:
        """The server as a Deployment."""
        return workload_of(self.spec, self.replicas, self.resource_version)

    def _stop(self, one: Replica, now: float) -> None:
        one.until = now
        row = self.rows.pop(one.name, None)
        if row is not None:
            self.engines.remove(row)


def build_event_server(
    spec: PlantServer,
    system: System,
    arrivals: Arrivals,
    options: EngineOptions,
    seed: np.random.SeedSequence,
    now: float,
) -> EventServer:
    """The server with its first replicas ready and nothing in them.

    Raises:
        ValueError: the system has no such accelerator, or no performance data of the pair.
        UnknownPluginError: nothing says what an iteration takes under the pair's queue model.

    """
    _, perf = pair_of(spec, system)
    pair = (spec.model, spec.accelerator)
    requests, chance, startups = seed.spawn(3)
    numbers = engine_numbers(
        perf.queue_model,
        perf.parameters,
        spec.max_batch,
        options.token_budget,
        options.kv_tokens.get(pair),
    )
    engines = ServerEngines(numbers, noise_factors(options.noise), options.router, chance)
    engines.time = now
    replicas = replica_set_of(spec, system, now)
    startup = options.startup.get(pair, Startup(spec.startup_s, options.startup_cv))
    replicas.draw_startup_s = _Draws(startup, np.random.default_rng(startups))
    server = EventServer(spec, replicas, engines, arrivals.open(requests), now)
    server.settle(now)
    return server


class _Draws:
    """Start-up times, one after the other."""

    def __init__(self, startup: Startup, rng: np.random.Generator) -> None:
        self._startup, self._rng = startup, rng

    def __call__(self) -> float:
        if self._startup.cv <= 0 or self._startup.mean_s <= 0:
            return self._startup.mean_s
        variance = np.log1p(self._startup.cv**2)
        drawn = self._rng.lognormal(
            np.log(self._startup.mean_s) - variance / 2.0, np.sqrt(variance)
        )
        return float(drawn)
