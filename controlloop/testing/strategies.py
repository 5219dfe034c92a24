"""Hypothesis strategies: replicas, targets and whole systems, small and awkward on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from hypothesis import strategies as st

from controlloop.api.replicas import FloatArray, Replicas, Targets
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    PerfParameters,
    SaturationPolicy,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.queueing import models

TOKENS_IN: Final = (0.0, 1.0, 16.0, 300.5, 1024.0, 4096.0)
TOKENS_OUT: Final = (1.0, 2.0, 64.0, 500.5, 2048.0)

# Likely magnitudes of parameters by their names, for models that do not say otherwise.
_MAGNITUDES: Final[Mapping[str, float]] = {
    "alpha_ms": 10.0,
    "beta_ms": 0.1,
    "gamma_ms": 20.0,
    "delta_ms": 0.01,
    "weights_ms": 7.0,
    "sequence_ms": 0.02,
    "context_ms": 4e-5,
    "token_ms": 0.025,
    "request_ms": 6.0,
    "stream_ms": 0.06,
    "kv_tokens": 5e5,
}
_CARD_TYPES: Final = ("A", "B")


def parameters(names: Sequence[str]) -> st.SearchStrategy[tuple[float, ...]]:
    """Parameters within a factor of ten of what their names usually are; others of 1."""
    usual = np.array([_MAGNITUDES.get(name, 1.0) for name in names])
    factors = st.tuples(*(st.floats(-2.3, 2.3) for _ in names))
    return factors.map(lambda logs: tuple((usual * np.exp(logs)).tolist()))


@st.composite
def replicas(
    draw: st.DrawFn,
    parameters: st.SearchStrategy[Sequence[float]],
    *,
    most_pairs: int = 4,
    most_batch: int = 200,
) -> Replicas:
    """One pair or some, with and without prompts, of all batches and queues.

    Args:
        draw: Hypothesis gives it.
        parameters: of one pair.
        most_pairs: pairs at most.
        most_batch: batch at most.

    """
    count = draw(st.integers(1, most_pairs))

    def each(values: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(values, min_size=count, max_size=count))

    batch = np.array(each(st.integers(1, most_batch)), dtype=np.int64)
    queue = each(st.sampled_from([0, 1, 10, 10 * most_batch]))
    tokens_in, tokens_out = each(st.sampled_from(TOKENS_IN)), each(st.sampled_from(TOKENS_OUT))
    # One output token of no input asks for nothing.
    tokens_out = [
        max(made, 2.0) if read == 0 else made
        for read, made in zip(tokens_in, tokens_out, strict=True)
    ]
    table = draw(st.lists(parameters, min_size=count, max_size=count))
    return models.replicas(batch, tokens_in, tokens_out, [list(row) for row in table], queue)


@st.composite
def targets(draw: st.DrawFn, floor_ttft_ms: FloatArray, floor_itl_ms: FloatArray) -> Targets:
    """For each pair targets from just above its floors to far above them, or none.

    Args:
        draw: Hypothesis gives it.
        floor_ttft_ms: (n,) the least TTFT possible.
        floor_itl_ms: (n,) the least ITL possible.

    """
    count = len(floor_ttft_ms)
    factor = st.sampled_from([0.0, 1.001, 1.1, 1.5, 3.0, 50.0])

    def some(floor_ms: FloatArray) -> FloatArray:
        factors = draw(st.lists(factor, min_size=count, max_size=count))
        return np.nan_to_num(floor_ms) * np.array(factors, dtype=np.float64)

    tps = draw(st.lists(st.sampled_from([0.0, 100.0]), min_size=count, max_size=count))
    return Targets(some(floor_itl_ms), some(floor_ttft_ms), np.array(tps))


@st.composite
def systems(draw: st.DrawFn, *, most_servers: int = 6) -> System:
    """Few servers of two models on three accelerators of two card types; cards may be short.

    Loads from none to heavy, targets from none to out of reach, priorities, minimum replicas,
    kept accelerators, and servers of a class or model that nobody knows.

    Args:
        draw: Hypothesis gives it.
        most_servers: servers at most; there may be none.

    """
    servers = [_server(draw, at) for at in range(draw(st.integers(0, most_servers)))]
    return System(
        accelerators=(
            Accelerator("A", "A", 1, draw(st.sampled_from([5.0, 20.0]))),
            Accelerator("2xA", "A", 2, 38.0),
            Accelerator("B", "B", 1, 12.0),
        ),
        capacity={name: draw(st.integers(0, 12)) for name in _CARD_TYPES},
        perf=(
            _perf("m", "A", 12.0),
            _perf("m", "2xA", 7.0),
            _perf("m", "B", 16.0),
            _perf("n", "A", 30.0, units=2),
            _perf("n", "B", 35.0),
        ),
        classes=tuple(
            ServiceClass(f"class{priority}", priority, (_target(draw, "m"), _target(draw, "n")))
            for priority in (1, 2, 3)
        ),
        servers=tuple(servers),
        options=OptimizerOptions(
            saturation_policy=draw(st.sampled_from(SaturationPolicy)),
            delayed_best_effort=draw(st.booleans()),
            heterogeneous=draw(st.sampled_from([False, False, True])),
        ),
    )


def _perf(model: str, accelerator: str, alpha_ms: float, units: int = 1) -> PerfParameters:
    return PerfParameters(
        model=model,
        accelerator=accelerator,
        parameters=(alpha_ms, alpha_ms / 40, 2 * alpha_ms, alpha_ms / 1000),
        max_batch=16,
        at_tokens=256,
        accelerators_per_replica=units,
    )


def _target(draw: st.DrawFn, model: str) -> Target:
    return Target(
        model,
        itl_ms=draw(st.sampled_from([0.0, 20.0, 40.0, 80.0])),
        ttft_ms=draw(st.sampled_from([0.0, 150.0, 2000.0])),
        tps=draw(st.sampled_from([0.0, 0.0, 0.0, 900.0])),
    )


def _server(draw: st.DrawFn, at: int) -> Server:
    accelerator = draw(st.sampled_from(["", "A", "2xA", "B", "gone"]))
    count = draw(st.integers(1, 5)) if accelerator else 0
    load = Load(
        draw(st.sampled_from([0.0, 0.1, 1.0, 3.0, 8.0, 25.0])),
        draw(st.sampled_from([0.0, 128.0])),
        draw(st.sampled_from([0.0, 64.0, 256.0])),
    )
    return Server(
        name=f"server{at}",
        model=draw(st.sampled_from(["m", "m", "m", "n", "n", "unknown"])),
        service_class=draw(st.sampled_from(["class1", "class2", "class3", "class3", "nobody"])),
        keep_accelerator=draw(st.sampled_from([False, False, True])),
        min_replicas=draw(st.integers(0, 2)),
        max_batch=draw(st.sampled_from([0, 0, 8])),
        current=Allocation(accelerator, count, 16, 10.0 * count, load=load),
    )
