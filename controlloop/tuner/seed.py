"""First parameters without a benchmark: an estimator's engine steps, fitted.

The model `roofline` is a formula of engine steps, so it is fitted to the steps themselves. What
happens outside the engine (`request_ms`, `stream_ms`) no step shows: those keep their usual
values. Other models know no steps but what requests see with n in service; they are fitted to
that, as the roofline of the same steps has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np

from controlloop.api.replicas import FloatArray, Replicas
from controlloop.queueing.models import replicas
from controlloop.queueing.roofline import Roofline
from controlloop.tuner.fit import Fit, Predict, Prior, fit
from controlloop.tuner.sweep_fit import PRIORS, RunModel

SEQUENCES: Final = (1, 4, 16, 64, 128)
CONTEXTS: Final = (256, 1024, 4096)
PROMPTS: Final = (256, 512, 1024, 2048, 4096, 8192)
# Shapes that other models are fitted to: tokens in and out.
SHAPES: Final = ((256, 256), (512, 256), (1024, 256), (1024, 512), (2048, 512))
# How far estimates may lie from a real server, as errors of logarithms: of what was estimated
# from measured kernels, from the limits of the cards, and of what no estimate shows.
FROM_KERNELS, FROM_LIMITS, FROM_NOTHING = 0.3, 0.7, 1.0
# The estimate is exact as it stands; nothing is an outlier, and the prior only a start.
_ROBUST_FROM: Final = 1.0
_ANCHOR: Final = 1e-3
_UNSEEN: Final = ("request_ms", "stream_ms")
# The host's work on each sequence is in no kernel.
_HALF_SEEN: Final = ("sequence_ms",)


class StepSource(Protocol):
    """Estimated engine steps of one replica, in ms."""

    def prompt_ms(self, tokens: int) -> float:
        """An iteration that computes one prompt and nothing else."""
        ...

    def decode_ms(self, sequences: int, context: int) -> float:
        """An iteration in which `sequences` of `context` tokens take one token each."""
        ...

    def room_tokens(self) -> float:
        """Tokens that the KV cache holds."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """m engine steps.

    Attributes:
        decoding: (m,) sequences that take a token.
        context: (m,) tokens of each of them.
        prompt_tokens: (m,) prompt tokens computed.
        step_ms: (m,) how long it takes.
        room_tokens: tokens that the KV cache holds.

    """

    decoding: FloatArray
    context: FloatArray
    prompt_tokens: FloatArray
    step_ms: FloatArray
    room_tokens: float


@dataclass(frozen=True, slots=True, eq=False)
class Seed:
    """First parameters of one model.

    Attributes:
        queue_model: its name.
        values: parameters by name.
        errors: their likely errors, of the logarithms, by name.
        misfit: median of |predicted/given - 1| over what it was fitted to.

    """

    queue_model: str
    values: Mapping[str, float]
    errors: Mapping[str, float]
    misfit: float


def sample(source: StepSource) -> Samples:
    """Steps over batch sizes, contexts and prompt lengths, as far as the KV cache has room."""
    room = source.room_tokens()
    decodes = [(n, k) for n in SEQUENCES for k in CONTEXTS if n * k <= max(room, CONTEXTS[0])]
    prompts = [tokens for tokens in PROMPTS if tokens <= max(room, PROMPTS[0])]
    times = [source.decode_ms(n, k) for n, k in decodes] + [source.prompt_ms(p) for p in prompts]
    none = [0] * len(prompts)
    return Samples(
        decoding=np.array([n for n, _ in decodes] + none, dtype=np.float64),
        context=np.array([k for _, k in decodes] + none, dtype=np.float64),
        prompt_tokens=np.array([0] * len(decodes) + prompts, dtype=np.float64),
        step_ms=np.array(times),
        room_tokens=room,
    )


def seed_roofline(samples: Samples, error: float) -> Seed:
    """Parameters of `roofline`.

    Args:
        samples: engine steps.
        error: how far they may lie from a real server: `FROM_KERNELS` or `FROM_LIMITS`.

    """
    model = Roofline()
    usual = PRIORS[model.name]
    steps = _replicas(samples.decoding, samples.context, np.ones(len(samples.context)))

    def predict(values: FloatArray) -> FloatArray:
        parameters = np.broadcast_to(values, (len(samples.step_ms), len(values)))
        times = model.times(replace(steps, parameters=parameters))
        return times.iteration_ms(samples.decoding, samples.prompt_tokens)

    likely = {**usual, **dict.fromkeys(_UNSEEN, 0.0), "kv_tokens": samples.room_tokens}
    found = _fit(model, likely, predict, samples.step_ms)
    values = dict(zip(found.names, found.values.tolist(), strict=True))
    values.update({name: usual[name] for name in _UNSEEN}, kv_tokens=samples.room_tokens)
    errors = dict.fromkeys(model.parameter_names, error)
    errors.update(dict.fromkeys((*_UNSEEN, *_HALF_SEEN), FROM_NOTHING))
    return _seed(model.name, values, errors, found)


def seed_other(model: RunModel, roofline: Seed, error: float, max_batch: int) -> Seed:
    """Parameters of another model, by which requests see what `roofline` lets them see.

    Args:
        model: the queue model.
        roofline: what `seed_roofline` found.
        error: as there.
        max_batch: requests in service at most.

    Raises:
        ValueError: no usual values of the model's parameters are known.

    """
    if model.name not in PRIORS:
        raise ValueError(f'no usual parameters of queue model "{model.name}" are known')
    numbers = [n for n in SEQUENCES if n <= max_batch]
    cases = [(n, *shape) for n in numbers for shape in SHAPES]
    in_service, tokens_in, tokens_out = np.array(cases, dtype=np.float64).T
    pairs = _replicas(in_service, tokens_in, tokens_out, max_batch)

    def seen(by: RunModel, values: FloatArray) -> FloatArray:
        parameters = np.broadcast_to(values, (len(cases), len(values)))
        times = by.times(replace(pairs, parameters=parameters))
        held = np.minimum(in_service, times.slots)
        return np.concatenate([times.prefill_ms(held), times.itl_ms(held)])

    truth = seen(Roofline(), np.array(list(roofline.values.values())))
    found = _fit(model, PRIORS[model.name], lambda values: seen(model, values), truth)
    values = dict(zip(found.names, found.values.tolist(), strict=True))
    spread = float(np.std(found.log_residuals))
    wide = float(np.hypot(error, spread))
    return _seed(model.name, values, dict.fromkeys(found.names, wide), found)


def _fit(
    model: RunModel,
    likely: Mapping[str, float],
    predict: Predict,
    truth: FloatArray,
) -> Fit:
    usual = np.array([likely[name] for name in model.parameter_names])
    # A card ten times as slow is ten times as slow in everything, more or less.
    pace = float(np.exp(np.median(np.log(truth / predict(usual)))))
    prior = Prior(model.parameter_names, usual * pace, _ANCHOR)
    return fit(predict, truth, prior, robust_from=_ROBUST_FROM)


def _seed(name: str, values: Mapping[str, float], errors: Mapping[str, float], found: Fit) -> Seed:
    misfit = float(np.median(np.abs(np.expm1(found.log_residuals))))
    return Seed(name, MappingProxyType(dict(values)), MappingProxyType(dict(errors)), misfit)


def _replicas(
    sequences: FloatArray, tokens_in: FloatArray, tokens_out: FloatArray, max_batch: int = 1
) -> Replicas:
    batch = np.maximum(sequences, max_batch).astype(np.int64)
    return replicas(batch, tokens_in, tokens_out, np.zeros((len(batch), 1)))


def batch_at(room_tokens: float, at_tokens: int, most: int) -> int:
    """Requests in service at most, where each keeps three times `at_tokens` in the KV cache.

    An answer of `at_tokens` and a prompt of twice as many.
    """
    return int(min(room_tokens / (3 * at_tokens), most))
