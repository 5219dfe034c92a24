"""Builds scenarios: the fleet that generated workloads run on, and the one server of a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from controlloop.api.system import System
from controlloop.backtest.capability import Capability, capabilities
from controlloop.backtest.case import Case, Part
from controlloop.backtest.scenario import Scenario
from controlloop.backtest.traces import known_trace
from controlloop.backtest.workloads import workloads
from controlloop.errors import Problem
from controlloop.protocols import QueueModel
from controlloop.simulator.fleet import read_fleet
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.requests import Requests, Workload
from controlloop.simulator.workloads.trace import Trace, TraceError
from controlloop.units import SECONDS_PER_HOUR

WARM_UP_S: Final = 300.0
# Copies of a trace's request arrive within so long of it, either way.
JITTER_S: Final = 10.0
# A trace is multiplied until this many replicas are busy at its mean load.
TRACE_REPLICAS: Final = 8.0
_STREAMS: Final = {Part.JUDGE: 0, Part.TRAIN: 1}

QueueModels = Callable[[str], QueueModel]


def _server(
    name: str,
    model: str,
    service_class: str,
    accelerator: str,
    max_batch: int,
    tokens: tuple[int, int],
    startup_s: float,
    most: int,
) -> PlantServer:
    return PlantServer(
        name=name,
        model=model,
        service_class=service_class,
        accelerator=accelerator,
        max_batch=max_batch,
        replicas=1,
        input_tokens=float(tokens[0]),
        output_tokens=float(tokens[1]),
        startup_s=startup_s,
        max_replicas=most,
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A server of the fleet: what it is, its mean requests, and the replicas busy on average.

    `variation` is the coefficient of variation of its token lengths.
    """

    server: PlantServer
    replicas: float
    phase: float = 0.0
    variation: float = 0.5


# Two models, three classes; two servers share one type of cards, which are not without end.
CARDS: Final = MappingProxyType({"A100": 32, "L4": 16})
FLEET: Final = (
    Member(
        _server("chat-8b", "llama-3.1-8b", "Premium", "A100", 128, (512, 256), 90.0, 20), 6, 0.5
    ),
    Member(
        _server("draft-24b", "mistral-small-24b", "Standard", "A100", 98, (512, 384), 120.0, 20), 5
    ),
    Member(_server("trial-8b", "llama-3.1-8b", "Free", "L4", 27, (256, 256), 90.0, 16), 5, 1.0),
)
# The server of a trace; its token lengths are the trace's.
TRACED: Final = _server("traced-32b", "qwen2.5-32b", "Premium", "2xA100", 64, (1, 1), 120.0, 48)
TRACED_CARDS: Final = MappingProxyType({"A100": 96})


def build(case: Case, model_of: QueueModels) -> Scenario:
    """The scenario of a case.

    Raises:
        UnknownPluginError: no such workload, or it cannot be built.
        TraceError: the trace cannot be used, or is too short; every problem of it.
        BacktestError: the fleet cannot meet its objectives.

    """
    return _traced(case, model_of) if case.trace else _generated(case, model_of)


def _generated(case: Case, model_of: QueueModels) -> Scenario:
    system = _system(CARDS)
    servers = tuple(_started(member.server, case) for member in FLEET)
    able = capabilities(servers, system, model_of)
    length_s = case.hours * SECONDS_PER_HOUR
    arriving: list[Workload] = []
    for member, server in zip(FLEET, servers, strict=True):
        mean_rps = member.replicas * able[server.name].rate_rps
        lengths = TokenLengths(
            server.input_tokens, server.output_tokens, member.variation, member.variation
        )
        curve = workloads().create(case.workload, mean_rps, WARM_UP_S + length_s, member.phase)
        arriving.append(Generated(curve, lengths))
    return _scenario(case, system, servers, arriving, WARM_UP_S, length_s, able)


def _traced(case: Case, model_of: QueueModels) -> Scenario:
    path, known = Path(case.trace), known_trace(case.trace)
    if case.trace_digest not in ("", known.digest):
        rule = "is not the file that the backtest began with; nothing was made of it: run again"
        raise TraceError([Problem("", rule)], case.trace)
    summary = known.summary
    half_s = summary.duration_s / 2
    counted_s = min(case.hours * SECONDS_PER_HOUR, half_s)
    warm_up_s = min(WARM_UP_S, half_s / 3)
    if counted_s < 60.0:
        rule = f"lasts {summary.duration_s:.0f} s; half of it is judged, which takes at least 60 s"
        raise TraceError([Problem("", rule)], case.trace)
    server = _started(
        replace(
            TRACED,
            input_tokens=summary.mean_input_tokens,
            output_tokens=max(summary.mean_output_tokens, 1.0),
        ),
        case,
    )
    system = _system(TRACED_CARDS)
    able = capabilities((server,), system, model_of)
    busy_rps = TRACE_REPLICAS * able[server.name].rate_rps
    copies = max(summary.replication_to(busy_rps, path), 1.0)
    # Judged on the second half, warmed up on the end of the first; trained on the first.
    begin_s = half_s - warm_up_s if case.part is Part.JUDGE else 0.0
    counted_s = counted_s if case.part is Part.JUDGE else half_s - warm_up_s
    trace = Trace(path, copies, JITTER_S, begin_s, begin_s + warm_up_s + counted_s)
    return _scenario(case, system, (server,), [trace], warm_up_s, counted_s, able)


def _scenario(
    case: Case,
    system: System,
    servers: Sequence[PlantServer],
    arriving: Sequence[Workload],
    warm_up_s: float,
    counted_s: float,
    able: Mapping[str, Capability],
) -> Scenario:
    end_s = warm_up_s + counted_s
    seeds = np.random.SeedSequence((case.seed, _STREAMS[case.part])).spawn(len(servers))
    requests = tuple(
        workload.open(seed).take(end_s) for workload, seed in zip(arriving, seeds, strict=True)
    )
    begun = tuple(
        replace(one, replicas=_at_start(mine, able[one.name], warm_up_s))
        for one, mine in zip(servers, requests, strict=True)
    )
    return Scenario(
        case=case,
        catalog=system,
        truth=system,
        servers=begun,
        requests=requests,
        capability=tuple(able[one.name] for one in servers),
        from_s=warm_up_s,
        to_s=end_s,
    )


def _at_start(requests: Requests, able: Capability, warm_up_s: float) -> int:
    """What the mean load of the warm-up asks for: every policy begins with it."""
    arrived = int(np.searchsorted(requests.times_s, warm_up_s))
    return able.replicas(arrived / warm_up_s)


def _started(server: PlantServer, case: Case) -> PlantServer:
    return server if case.startup_s is None else replace(server, startup_s=case.startup_s)


def _system(cards: Mapping[str, int]) -> System:
    catalog = read_fleet().catalog
    return replace(catalog, capacity=MappingProxyType(dict(cards)))
