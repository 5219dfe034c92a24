"""The queue model `mm1k`: a replica as one server, the textbook's M/M/1/K.

With the parameters of `state-dependent`, every request is served as in a full batch of N:

    ITL = alpha + beta N,  prefill = gamma + delta k_in N (0 when k_in = 0)
    s = prefill + (k_out - 1) ITL,  mu = N/s

and waits in front of a server of rate mu with K - 1 = Q places. With rho = lambda/mu,

    p_j = rho^j (1 - rho)/(1 - rho^(K+1)),  X = lambda (1 - p_K),  W = sum (j - 1) p_j / X

(Kleinrock, Queueing Systems 1, section 3.6). It overstates latencies at low load, where batches
are small, and never understates them: the cautious choice where only the full batch has been
measured. Requests in service are X s, the server's utilization is 1 - p_0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import Replicas
from controlloop.api.system import DEFAULT_PARAMETER_NAMES
from controlloop.queueing.affine import AffineTimes
from controlloop.queueing.chain_model import ChainModel
from controlloop.queueing.state_dependent import decode_and_prefill


@dataclass(frozen=True, slots=True)
class SingleServer(ChainModel):
    """One server that works at the speed of a full batch."""

    name: str = "mm1k"
    parameter_names: tuple[str, ...] = DEFAULT_PARAMETER_NAMES

    def times(self, replicas: Replicas) -> AffineTimes:
        """The times of a full batch, whatever is in service."""
        full = decode_and_prefill(replicas)
        batch = replicas.max_batch.astype(np.float64)
        none = np.zeros(len(batch))
        return AffineTimes(
            prefill_base=full.prefill_ms(batch),
            prefill_slope=none,
            itl_base=full.itl_ms(batch),
            itl_slope=none,
            decode_steps=full.decode_steps,
            slots=np.ones(len(batch)),
            per_slot=batch,
        )
