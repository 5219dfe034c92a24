"""How the parameters of a queue model become an engine: one mapping a model.

- `iteration-time`: an iteration takes alpha + beta (computed tokens) + gamma (tokens read):
  every decoding sequence computes one and reads its context, a chunk of a prompt computes its
  own tokens and reads those and what was there before.
- `roofline`: T(n, p) = sqrt(weights^2 + (token (n + p))^2) + sequence n + context (tokens
  resident), with n decoding and p prompt tokens; a first token takes `request` and `stream` n
  more on its way. The cache holds `kv_tokens`.
- `state-dependent`: an iteration takes alpha + beta n with n in service, prompts included. A
  prompt takes gamma + delta k_in n with the n that it finds, itself included, beside the
  iterations: what prompts cost the others is in beta, as the model fits it.
- `mm1k`: the same with n the maximum batch always.

The model then describes the engine it is named after as well as it can: what differs is what
the model leaves out (whole iterations, whole prompts, noise, the order of events).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import numpy as np
from scipy import special

from controlloop.api.replicas import FloatArray
from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.errors import UnknownPluginError
from controlloop.queueing.iteration_time import TOKEN_BUDGET
from controlloop.simulator.engine.layout import UNLIMITED, Mapping, Numbers
from controlloop.units import MILLISECONDS_PER_SECOND

DEFAULT_TOKEN_BUDGET: Final = int(TOKEN_BUDGET)
# Few enough to stay in a processor's fastest cache.
NOISE_FACTORS: Final = 1024


def engine_numbers(
    queue_model: str,
    parameters: tuple[float, ...],
    max_batch: int,
    token_budget: int = DEFAULT_TOKEN_BUDGET,
    kv_tokens: int | None = None,
) -> Numbers:
    """The engine that truly runs where a model with these parameters describes it.

    Args:
        queue_model: one of those above; "" is `state-dependent`.
        parameters: the model's, in its order, in ms.
        max_batch: sequences in service at most.
        token_budget: tokens that an iteration computes at most.
        kv_tokens: tokens that the cache holds; None is the model's own, or no limit.

    Raises:
        UnknownPluginError: another model: nothing says what an iteration takes there.

    """
    name = queue_model or DEFAULT_QUEUE_MODEL
    if name not in _MAPPINGS:
        known = ", ".join(_MAPPINGS)
        raise UnknownPluginError(f"no engine for queue model {name!r}; there are {known}")
    engine = _MAPPINGS[name](parameters, max_batch)
    limit = engine.kv_tokens if kv_tokens is None else kv_tokens
    return engine._replace(token_budget=token_budget, kv_tokens=limit)


def noise_factors(deviation: float) -> FloatArray:
    """Factors of an iteration's time to be drawn from evenly: a lognormal law of mean 1.

    Args:
        deviation: its relative standard deviation; 0 is no noise: one factor of 1.

    """
    if deviation <= 0:
        return np.ones(1)
    levels = (np.arange(NOISE_FACTORS) + 0.5) / NOISE_FACTORS
    factors = np.exp(np.sqrt(np.log1p(deviation**2)) * special.ndtri(levels))
    return np.asarray(factors / np.mean(factors), dtype=np.float64)


_NOTHING: Final = Numbers(
    mapping=int(Mapping.TOKENS),
    fixed_s=0.0,
    sequence_s=0.0,
    token_s=0.0,
    context_s=0.0,
    prefill_s=0.0,
    prompt_token_s=0.0,
    in_service=0,
    request_s=0.0,
    stream_s=0.0,
    max_batch=1,
    token_budget=DEFAULT_TOKEN_BUDGET,
    kv_tokens=UNLIMITED,
)


def _iteration_time(parameters: tuple[float, ...], max_batch: int) -> Numbers:
    alpha, beta, gamma = (each / MILLISECONDS_PER_SECOND for each in parameters)
    return _NOTHING._replace(fixed_s=alpha, token_s=beta, context_s=gamma, max_batch=max_batch)


def _roofline(parameters: tuple[float, ...], max_batch: int) -> Numbers:
    times, kv_tokens = parameters[:-1], parameters[-1]
    weights, sequence, context, token, request, stream = (
        each / MILLISECONDS_PER_SECOND for each in times
    )
    return _NOTHING._replace(
        mapping=int(Mapping.ROOFLINE),
        fixed_s=weights,
        sequence_s=sequence,
        context_s=context,
        token_s=token,
        request_s=request,
        stream_s=stream,
        max_batch=max_batch,
        kv_tokens=int(kv_tokens),
    )


def _beside(parameters: tuple[float, ...], max_batch: int) -> Numbers:
    alpha, beta, gamma, delta = (each / MILLISECONDS_PER_SECOND for each in parameters)
    return _NOTHING._replace(
        mapping=int(Mapping.BESIDE),
        fixed_s=alpha,
        sequence_s=beta,
        prefill_s=gamma,
        prompt_token_s=delta,
        max_batch=max_batch,
    )


def _full_batch(parameters: tuple[float, ...], max_batch: int) -> Numbers:
    return _beside(parameters, max_batch)._replace(in_service=max_batch)


_MAPPINGS: Final = MappingProxyType[str, Callable[[tuple[float, ...], int], Numbers]](
    {
        DEFAULT_QUEUE_MODEL: _beside,
        "iteration-time": _iteration_time,
        "mm1k": _full_batch,
        "roofline": _roofline,
    }
)
