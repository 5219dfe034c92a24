"""What a fleet is asked to do: the days of its servers, a generated workload, or a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.simulator.demo import LENGTHS_CV
from controlloop.simulator.fleet import Fleet
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import RateCurve
from controlloop.simulator.workloads.requests import Workload
from controlloop.simulator.workloads.trace import Trace

# Copies of a trace's request arrive within so long of it, either way.
JITTER_S: Final = 10.0

# A rate over time from its mean in requests/s, the length in s, and a phase in 0..1.
Shape = Callable[[float, float, float], RateCurve]


def scaled(fleet: Fleet, load: float) -> Fleet:
    """The fleet with `load` times the load of each server."""
    servers = tuple(
        replace(
            server,
            current=replace(
                server.current,
                load=replace(server.current.load, rate_rps=load * server.current.load.rate_rps),
            ),
        )
        for server in fleet.servers
    )
    return replace(fleet, servers=servers)


def mean_rates_rps(fleet: Fleet) -> FloatArray:
    """What each server's data says it gets: (servers,) requests/s."""
    return np.array([server.current.load.rate_rps for server in fleet.servers])


def generated(fleet: Fleet, shape: Shape, length_s: float) -> tuple[Generated, ...]:
    """The same shape for every server, around its own load, out of phase with the others."""
    return tuple(
        Generated(
            shape(server.current.load.rate_rps, length_s, at / len(fleet.servers)),
            TokenLengths(
                server.current.load.input_tokens,
                server.current.load.output_tokens,
                LENGTHS_CV,
                LENGTHS_CV,
            ),
        )
        for at, server in enumerate(fleet.servers)
    )


def traced(fleet: Fleet, path: Path) -> tuple[Fleet, tuple[Workload, ...]]:
    """The trace for every server, copied or thinned to its own load; and its token lengths.

    Raises:
        TraceError: every problem of the file; or it has too few requests to be a load.

    """
    summary = Trace(path).summary()
    servers = tuple(
        replace(
            server,
            current=replace(
                server.current,
                load=replace(
                    server.current.load,
                    input_tokens=summary.mean_input_tokens,
                    output_tokens=summary.mean_output_tokens,
                ),
            ),
        )
        for server in fleet.servers
    )
    workloads = tuple(
        Trace(path, summary.replication_to(server.current.load.rate_rps, path), JITTER_S)
        for server in servers
    )
    return replace(fleet, servers=servers), workloads
