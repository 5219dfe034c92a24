"""The queue model `iteration-time`: the cost of an iteration from the tokens in it.

An iteration of the engine costs alpha + beta (computed tokens) + gamma (resident tokens read).
The prompt of a request is computed in h = ceil(k_in/B) chunks of at most B tokens (chunked
prefill; h = 0 without a prompt), one an iteration; the last of them gives the first output
token, k_out - 1 decode iterations give the others. Over its h + k_out - 1 iterations a request
costs, beside the alpha that all share,

    prompt: beta k_in + gamma k_in (h + 1)/2     a chunk reads what is there before and itself
    token:  beta + gamma (k_in + k_out/2)

so that w = (prompt + (k_out - 1) token)/(h + k_out - 1) is what it adds to an iteration on
average, and with n in service

    itl(n) = alpha + (n - 1) w + token
    prefill(n) = h (alpha + (n - 1) w) + prompt
    s(n) = prefill(n) + (k_out - 1) itl(n) = (h + k_out - 1) (alpha + n w)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import Replicas
from controlloop.queueing.affine import AffineTimes
from controlloop.queueing.chain_model import ChainModel

# What vLLM computes in one iteration at most, where nothing else is said, on large cards.
TOKEN_BUDGET = 8192.0


@dataclass(frozen=True, slots=True)
class IterationTime(ChainModel):
    """Iterations that cost by their tokens; `token_budget` is the chunk of a long prompt."""

    name: str = "iteration-time"
    parameter_names: tuple[str, ...] = ("alpha_ms", "beta_ms", "gamma_ms")
    token_budget: float = TOKEN_BUDGET

    def times(self, replicas: Replicas) -> AffineTimes:
        """Times from alpha, beta and gamma."""
        alpha, beta, gamma = replicas.parameters.T
        tokens_in = replicas.input_tokens
        tokens_out = np.maximum(replicas.output_tokens, 1.0)
        steps = tokens_out - 1
        chunks = np.ceil(tokens_in / self.token_budget)
        prompt = beta * tokens_in + gamma * tokens_in * (chunks + 1) / 2
        token = beta + gamma * (tokens_in + tokens_out / 2)
        iterations = np.maximum(chunks + steps, np.finfo(np.float64).tiny)
        share = (prompt + steps * token) / iterations
        return AffineTimes(
            prefill_base=chunks * (alpha - share) + prompt,
            prefill_slope=chunks * share,
            itl_base=alpha - share + token,
            itl_slope=share,
            decode_steps=steps,
            slots=replicas.max_batch.astype(np.float64),
            per_slot=np.ones(len(replicas)),
        )
