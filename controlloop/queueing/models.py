"""The table of queue models, and the public face of this package: `analyze` and `size`.

from controlloop.queueing import models

pairs = models.replicas(
    max_batch=[32, 48], input_tokens=512, output_tokens=256,
    parameters=[[19.0, 1.0, 120.0, 0.05]],
)
models.analyze(pairs, rate_rps=[0.5, 0.8]).ttft_ms
models.size(pairs, models.targets(itl_ms=50, ttft_ms=1000)).rate_rps
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from controlloop.api.replicas import Analysis, IntArray, Percentiles, Replicas, Sizing, Targets
from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.errors import UnknownPluginError
from controlloop.plugins import Registry
from controlloop.protocols import PercentileModel, QueueModel
from controlloop.queueing.iteration_time import IterationTime
from controlloop.queueing.mm1k import SingleServer
from controlloop.queueing.roofline import Roofline
from controlloop.queueing.state_dependent import StateDependent

QUEUE_PER_BATCH: Final = 10


def queue_models() -> Registry[QueueModel]:
    """Every queue model that this package brings."""
    registry: Registry[QueueModel] = Registry("queue model", QueueModel)
    registry.add(DEFAULT_QUEUE_MODEL, StateDependent)
    registry.add("iteration-time", IterationTime)
    registry.add("mm1k", SingleServer)
    registry.add("roofline", Roofline)
    return registry


def analyze(pairs: Replicas, rate_rps: npt.ArrayLike, model: str = DEFAULT_QUEUE_MODEL) -> Analysis:
    """The stationary state of one replica of each pair.

    Args:
        pairs: n pairs; see `replicas`.
        rate_rps: arrivals per replica in requests/s, (n,) or one for all; saturation and beyond
            is allowed.
        model: name in the table, or "module:Factory".

    Returns:
        The analysis, every array (n,); NaN where a pair or its rate is invalid.

    Raises:
        UnknownPluginError: no such model.

    """
    rates = np.broadcast_to(np.asarray(rate_rps, dtype=np.float64), (len(pairs),))
    return queue_models().create(model).analyze(pairs, rates)


def size(pairs: Replicas, targets: Targets, model: str = DEFAULT_QUEUE_MODEL) -> Sizing:
    """The largest rate per replica at which every target holds.

    Args:
        pairs: n pairs; see `replicas`.
        targets: their objectives; see `targets`. Arrays of length 1 count for all.
        model: name in the table, or "module:Factory".

    Returns:
        Rates with a status a pair; a rate counts only where that is OK.

    Raises:
        UnknownPluginError: no such model.

    """
    shape = (len(pairs),)
    spread = Targets(
        np.broadcast_to(targets.itl_ms, shape),
        np.broadcast_to(targets.ttft_ms, shape),
        np.broadcast_to(targets.tps, shape),
    )
    return queue_models().create(model).size(pairs, spread)


def percentiles(
    pairs: Replicas,
    rate_rps: npt.ArrayLike,
    levels: Sequence[float],
    model: str = DEFAULT_QUEUE_MODEL,
) -> Percentiles:
    """How the latencies of one replica of each pair spread over requests.

    Args:
        pairs: n pairs; see `replicas`.
        rate_rps: arrivals per replica in requests/s, (n,) or one for all.
        levels: L shares between 0 and 1; 0.95 is the 95th percentile.
        model: name in the table, or "module:Factory".

    Returns:
        Percentiles (L, n); NaN where a pair or its rate is invalid.

    Raises:
        UnknownPluginError: no such model, or one that knows only means.
        ValueError: a level is not between 0 and 1.

    """
    chosen = queue_models().create(model)
    if not isinstance(chosen, PercentileModel):
        raise UnknownPluginError(f"queue model {model!r} knows means only, no percentiles")
    rates = np.broadcast_to(np.asarray(rate_rps, dtype=np.float64), (len(pairs),))
    return chosen.percentiles(pairs, rates, levels)


def replicas(
    max_batch: npt.ArrayLike,
    input_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
    parameters: npt.ArrayLike,
    max_queue: npt.ArrayLike | None = None,
) -> Replicas:
    """Pairs from numbers, lists or arrays, each (n,) or one for all.

    Args:
        max_batch: requests in service at most.
        input_tokens: mean input tokens of a request.
        output_tokens: mean output tokens of a request.
        parameters: (n, k) or (k,), in the order of the model's `parameter_names`.
        max_queue: requests waiting at most; None is `default_max_queue`.

    Raises:
        ValueError: the lengths do not fit together.

    """
    batch = np.atleast_1d(np.asarray(max_batch, dtype=np.int64))
    queue = default_max_queue(batch) if max_queue is None else max_queue
    table = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
    batch, queue, tokens_in, tokens_out, _ = np.broadcast_arrays(
        batch,
        np.asarray(queue, dtype=np.int64),
        np.asarray(input_tokens, dtype=np.float64),
        np.asarray(output_tokens, dtype=np.float64),
        table[:, 0],
    )
    table = np.broadcast_to(table, (len(batch), table.shape[1]))
    return Replicas(batch, queue, tokens_in, tokens_out, table)


def targets(
    itl_ms: npt.ArrayLike = 0.0, ttft_ms: npt.ArrayLike = 0.0, tps: npt.ArrayLike = 0.0
) -> Targets:
    """Objectives from numbers, lists or arrays, each (n,) or one for all; 0 is no target."""
    itl, ttft, rate = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in (itl_ms, ttft_ms, tps))
    )
    return Targets(itl, ttft, rate)


def default_max_queue(max_batch: IntArray) -> IntArray:
    """Requests waiting at most where nobody says otherwise: ten batches, (n,)."""
    return QUEUE_PER_BATCH * max_batch
