"""The queue model `roofline`: what an iteration of the engine costs on real hardware.

With n sequences decoding and p prompt tokens in it, an iteration takes

    T(n, p) = sqrt(weights^2 + (token (n + p))^2) + sequence n + context n k

with k = k_in + k_out (1 + c_out^2)/2 the mean length of a running sequence. Weights are read
while tokens are computed, so the longer of both counts (the roofline; the root is its smooth
form): a short prompt in a small batch is nearly free, a long one costs `token` for each of its
tokens. Reading the keys and values of each sequence, and the host's work on it, come on top.

A request takes part in k_out iterations and its prompt is computed in one of them, so with n in
service m = n/k_out prompts join an iteration on average. In whole prompts: of Poisson arrivals
a share q = 1 - e^-m of the iterations holds some, of evenly spaced ones m/(1 + m^8)^(1/8); and
at least so many that no iteration computes more than the engine's token budget. The mean
iteration

    L(n, m) = (1 - q) T(n, 0) + q T(n, k_in m/q)

is explicit in n: service takes s(n) = k_out L(n, n/k_out). Slots are the least of the maximum
batch and the sequences that the KV cache holds, kv_tokens/k.

An arrival that meets n in service waits for half of the iteration under way, and its prompt is
computed in the next, with those of all that arrived meanwhile:

    TTFT = wait for a slot + request + stream n + seen/2 + own

    seen = T(n, k_in x) + V/L          x = rate L: prompts in the iteration under way
    own  = T(n, k_in (1 + y))          y = rate seen: prompts that come along

V is the variance of an iteration's length. With P = token k_in for each prompt, the next one is
D + P Poisson(rate T), so V = rate L P^2 (1 + c_in^2)/(1 - (rate P)^2). V/L is the inspection
paradox, E[T^2]/E[T]: arrivals meet long iterations. Evenly spaced arrivals (`arrival_scv` 0) do
not, and avoid each other; see `_together`. Nobody waits longer than half an iteration and a whole
service time, which binds where answers have a token or two.

Found on measured sweeps of vLLM; docs/models.md has the evidence and its limits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray, Replicas
from controlloop.queueing.chain_model import ChainModel
from controlloop.queueing.iteration_time import TOKEN_BUDGET
from controlloop.queueing.service import Readings, tabulated

# Of half to one and a half times the mean, evenly: the lengths of the sweeps.
LENGTH_CV: Final = 0.29
# Keeps nothing from being divided by nothing.
_LEAST: Final = 1e-12
# How sharply the share of iterations with prompts turns from m to 1.
_SHARPNESS: Final = 8
# At most this share of the time goes to other prompts when an arrival's wait is reckoned.
_MOST_SHARE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Roofline(ChainModel):
    """Iterations by reading weights, computing tokens and reading the KV cache.

    Attributes:
        token_budget: tokens that the engine computes in one iteration at most.
        input_cv: coefficient of variation of input tokens over requests.
        output_cv: coefficient of variation of output tokens over requests.

    """

    name: str = "roofline"
    parameter_names: tuple[str, ...] = (
        "weights_ms",
        "sequence_ms",
        "context_ms",
        "token_ms",
        "request_ms",
        "stream_ms",
        "kv_tokens",
    )
    token_budget: float = TOKEN_BUDGET
    input_cv: float = LENGTH_CV
    output_cv: float = LENGTH_CV

    def times(self, replicas: Replicas) -> RooflineTimes:
        """Times from the seven parameters."""
        weights, sequence, context, token, request, stream, kv_tokens = replicas.parameters.T
        tokens_out = np.maximum(replicas.output_tokens, 1.0)
        resident = replicas.input_tokens + 0.5 * tokens_out * (1 + self.output_cv**2)
        return RooflineTimes(
            weights_ms=weights,
            sequence_ms=sequence + context * resident,
            token_ms=token,
            request_ms=request,
            stream_ms=stream,
            kv_tokens=kv_tokens,
            max_batch=replicas.max_batch.astype(np.float64),
            slots=np.minimum(replicas.max_batch, kv_tokens / resident),
            input_tokens=replicas.input_tokens,
            output_tokens=tokens_out,
            token_budget=self.token_budget,
            input_scv=self.input_cv**2,
            arrival_scv=1.0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RooflineTimes:
    """Service times of n pairs; see the module. Arrays are (n,), times in ms.

    Attributes:
        weights_ms: reading the weights once: the least that an iteration takes.
        sequence_ms: what each running sequence adds to an iteration, its context read included.
        token_ms: computing a token.
        request_ms: the request's path outside the engine.
        stream_ms: delay of a first token by each sequence that streams.
        kv_tokens: tokens that the KV cache holds.
        max_batch: sequences that run at most.
        slots: those for which the KV cache has room, too.
        input_tokens: mean tokens of a prompt.
        output_tokens: mean tokens of an answer, >= 1.
        token_budget: tokens of one iteration at most.
        input_scv: squared coefficient of variation of the prompt's tokens.
        arrival_scv: that of the gaps between arrivals: 1 is Poisson, 0 evenly spaced.

    """

    weights_ms: FloatArray
    sequence_ms: FloatArray
    token_ms: FloatArray
    request_ms: FloatArray
    stream_ms: FloatArray
    kv_tokens: FloatArray
    max_batch: FloatArray
    slots: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    token_budget: float
    input_scv: float
    arrival_scv: float

    @property
    def unused(self) -> FloatArray:
        """Places of the batch for which the KV cache has no room."""
        return self.max_batch - np.ceil(self.slots)

    @property
    def decode_steps(self) -> FloatArray:
        """Tokens after the first."""
        return self.output_tokens - 1

    def take(self, rows: IntArray | BoolArray) -> RooflineTimes:
        """The pairs at `rows`."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def iteration_ms(self, decoding: FloatArray, prompt_tokens: FloatArray) -> FloatArray:
        """T: one iteration with `decoding` sequences and `prompt_tokens`."""
        computed = self.token_ms * (decoding + prompt_tokens)
        return np.hypot(self.weights_ms, computed) + self.sequence_ms * decoding

    def mean_iteration_ms(self, decoding: FloatArray, prompts: FloatArray) -> FloatArray:
        """L: the mean iteration when `prompts` join each on average."""
        tokens = self.input_tokens * prompts
        by_chance = -np.expm1(-prompts)
        in_turn = prompts / (1 + prompts**_SHARPNESS) ** (1 / _SHARPNESS)
        with_some = self.arrival_scv * by_chance + (1 - self.arrival_scv) * in_turn
        share = np.maximum(np.maximum(with_some, tokens / self._room(decoding)), _LEAST)
        plain = self.iteration_ms(decoding, np.zeros(len(decoding)))
        mixed = self.iteration_ms(decoding, tokens / share)
        # Above 1 the budget binds: a prompt then takes more than one iteration.
        return np.where(share > 1, share * mixed, plain + share * (mixed - plain))

    def departure_ms(self, in_service: FloatArray) -> FloatArray:
        """Service time by the requests that share it."""
        return self.service_ms(in_service) / in_service

    def service_ms(self, in_service: FloatArray) -> FloatArray:
        """k_out mean iterations."""
        prompts = in_service / self.output_tokens
        return self.output_tokens * self.mean_iteration_ms(in_service, prompts)

    def prefill_ms(self, in_service: FloatArray) -> FloatArray:
        """Time to first token, at the rate that keeps the batch."""
        beside = np.maximum(in_service - 1, 0.0)
        return self.first_token_ms(beside, self._joining_per_ms(beside))

    def itl_ms(self, in_service: FloatArray) -> FloatArray:
        """A mean iteration with the prompts of the others."""
        beside = np.maximum(in_service - 1, 0.0)
        return self.mean_iteration_ms(in_service, beside / self.output_tokens)

    def prefill_variance(self, in_service: FloatArray) -> FloatArray:
        """Of the moment within the iteration under way, and of the prompts in the next."""
        beside = np.maximum(in_service - 1, 0.0)
        return self.first_token_variance(beside, self._joining_per_ms(beside))

    def itl_variance(self, in_service: FloatArray) -> FloatArray:
        """Of the prompts that happen to join during a request's stay."""
        beside = np.maximum(in_service - 1, 0.0)
        return self.stay_variance(beside, self._joining_per_ms(beside))

    @property
    def entries(self) -> FloatArray:
        """One for each state."""
        return self.slots

    def readings(self) -> Readings:
        """State by state."""
        return tabulated(self)

    def evenly_spaced(self) -> RooflineTimes:
        """The same without chance in the arrivals."""
        return replace(self, arrival_scv=0.0)

    def first_token_ms(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Time to first token with a slot free and `beside` sequences running.

        Args:
            beside: (n,) sequences that an arrival meets; below 1 the share of time with one.
            rate_per_ms: (n,) rate at which others arrive.

        """
        seen = self._seen_ms(beside, rate_per_ms)
        along = rate_per_ms * seen
        tokens = self.input_tokens * (1 + along * self._together(along))
        own = self.iteration_ms(beside, tokens)
        further = np.maximum(tokens / self._room(beside) - 1, 0.0)
        own = own + further * self.iteration_ms(beside, np.zeros(len(beside)))
        # Where prompts are all that is served, those beside count as seen and as coming along.
        latest = (1 + 0.5 / self.output_tokens) * self.service_ms(beside + 1)
        return self.request_ms + self.stream_ms * beside + np.minimum(0.5 * seen + own, latest)

    def first_token_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Variance of that time while `beside` stays as it is, in ms^2.

        Of the moment within the iteration met, of the prompts that come along, and of that
        iteration's own length, which counts by half and again by the prompts that it lets come.
        """
        seen = self._seen_ms(beside, rate_per_ms)
        along = rate_per_ms * seen
        along = along * self._together(along) * (1 + self.input_scv)
        own = self._prompt_ms(beside) ** 2 * self.input_scv
        share = np.minimum(rate_per_ms * self._further_ms, _MOST_SHARE)
        mean = self.mean_iteration_ms(beside, beside / self.output_tokens)
        by_length = (0.5 + share) ** 2 * mean * self._dispersion_ms(rate_per_ms)
        return seen**2 / 12 + own + self._further_ms**2 * along + by_length

    def itl_during_ms(self, batch: FloatArray) -> FloatArray:
        """A mean iteration, with the prompts of all."""
        return self.service_ms(batch) / self.output_tokens

    def stay_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Variance of a request's mean ITL by the prompts that join during it, in ms^2."""
        prompts = rate_per_ms * self.mean_iteration_ms(beside, beside / self.output_tokens)
        spread = self.input_scv + self.arrival_scv
        return prompts * self._prompt_ms(beside) ** 2 * spread / self.output_tokens

    def admitted_at_once(self, clients: FloatArray) -> FloatArray:
        """Those whose prompts alone the KV cache holds: nothing is kept free for answers."""
        prompts = np.maximum(self.input_tokens, 1.0)
        return np.minimum(np.minimum(clients, self.max_batch), self.kv_tokens / prompts)

    def prompts_ms(self, count: FloatArray) -> FloatArray:
        """Computing them, nothing else."""
        return count * self._further_ms

    def _joining_per_ms(self, beside: FloatArray) -> FloatArray:
        """The rate of arrivals that keeps `beside` in service."""
        prompts = beside / self.output_tokens
        iteration_ms = self.mean_iteration_ms(beside, prompts)
        return np.divide(prompts, iteration_ms, out=np.zeros(len(beside)), where=beside > 0)

    def _seen_ms(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """The iteration that an arrival meets; none in an empty replica."""
        prompts = rate_per_ms * self.mean_iteration_ms(beside, beside / self.output_tokens)
        joined = self.input_tokens * prompts * self._together(prompts)
        seen = self.iteration_ms(beside, joined) + self._dispersion_ms(rate_per_ms)
        return np.minimum(beside, 1.0) * seen

    def _dispersion_ms(self, rate_per_ms: FloatArray) -> FloatArray:
        """V/L: variance of an iteration's length by its mean; see the module."""
        share = np.minimum(rate_per_ms * self._further_ms, _MOST_SHARE)
        spread = self.arrival_scv * (1 + self.input_scv)
        dispersion: FloatArray = spread * share * self._further_ms / (1 - share**2)
        return dispersion

    @property
    def _further_ms(self) -> FloatArray:
        """What one more prompt adds to an iteration that has some."""
        return self.token_ms * self.input_tokens

    def _prompt_ms(self, decoding: FloatArray) -> FloatArray:
        """What a prompt adds to an iteration without one."""
        none = np.zeros(len(decoding))
        return self.iteration_ms(decoding, self.input_tokens) - self.iteration_ms(decoding, none)

    def _room(self, decoding: FloatArray) -> FloatArray:
        """Prompt tokens that an iteration has room for."""
        return np.maximum(self.token_budget - decoding, 1.0)

    def _together(self, expected: FloatArray) -> FloatArray:
        """The part of the arrivals expected beside one's own that do fall together with it.

        All of Poisson's; of evenly spaced ones hardly any while fewer than one is expected.
        """
        together: FloatArray = np.exp(-(1 - self.arrival_scv) / np.maximum(expected, _LEAST))
        return together
