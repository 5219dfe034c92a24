"""The queue model `state-dependent`: service slows down with the requests in service.

    prefill(n) = gamma + delta k_in n,  0 when k_in = 0
    itl(n) = alpha + beta n
    s(n) = prefill(n) + (k_out - 1) itl(n)

The first output token comes out of prefill, the other k_out - 1 out of decode steps. With n*
the mean batch that a request is served in, weighed by completions, s being affine gives the
time in service S = s(n*), and prefill(n*), itl(n*) are the means that requests see; n* is 1 plus
the mean of what accepted arrivals meet in service, and lies in 1..N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray, Replicas
from controlloop.api.system import DEFAULT_PARAMETER_NAMES, DEFAULT_QUEUE_MODEL
from controlloop.queueing.affine import AffineTimes
from controlloop.queueing.chain_model import ChainModel


@dataclass(frozen=True, slots=True)
class StateDependent(ChainModel):
    """Prefill and decode steps that grow with the batch."""

    name: str = DEFAULT_QUEUE_MODEL
    parameter_names: tuple[str, ...] = DEFAULT_PARAMETER_NAMES

    def times(self, replicas: Replicas) -> AffineTimes:
        """Times from alpha, beta, gamma and delta."""
        return decode_and_prefill(replicas)


def decode_and_prefill(replicas: Replicas) -> AffineTimes:
    """Times from the parameters alpha, beta, gamma, delta of each pair."""
    alpha, beta, gamma, delta = replicas.parameters.T
    steps: FloatArray = np.maximum(replicas.output_tokens - 1, 0.0)
    prefill_slope = delta * replicas.input_tokens
    varies = prefill_slope + beta * steps > 0
    return AffineTimes(
        prefill_base=np.where(replicas.input_tokens > 0, gamma, 0.0),
        prefill_slope=prefill_slope,
        itl_base=alpha,
        itl_slope=np.where(varies, beta, 0.0),
        decode_steps=steps,
        slots=replicas.max_batch.astype(np.float64),
        per_slot=np.ones(len(replicas)),
    )
