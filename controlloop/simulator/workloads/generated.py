"""Requests drawn from a rate: Poisson, or burstier or more regular than that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.simulator.workloads.rates import RateAt, RateCurve
from controlloop.simulator.workloads.requests import BufferedStream, Requests, whole

GRID_S: Final = 1.0
BLOCK_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Lengths of prompts and answers: independent lognormals of these means.

    A coefficient of variation of 0 is the mean itself (by chance the whole number below or
    above it). `geometric_output` draws answers from the geometric law instead, whose service
    times are the queueing textbooks' exponential ones.
    """

    input_mean: float
    output_mean: float
    input_cv: float = 0.0
    output_cv: float = 0.0
    geometric_output: bool = False

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Input and output tokens of `count` requests."""
        tokens_in = whole(_lognormal(self.input_mean, self.input_cv, count, rng), rng, 0)
        if self.geometric_output:
            return tokens_in, rng.geometric(1.0 / self.output_mean, count).astype(np.int64)
        return tokens_in, whole(_lognormal(self.output_mean, self.output_cv, count, rng), rng, 1)


@dataclass(frozen=True, slots=True)
class Generated:
    """Requests whose gaps follow a gamma law around a rate that may change.

    Attributes:
        rate: arrivals over time.
        lengths: their tokens.
        burstiness: coefficient of variation of the gaps at a constant rate: 1 is Poisson, above
            1 requests come in bursts, 0 is evenly spaced.

    """

    rate: RateCurve
    lengths: TokenLengths
    burstiness: float = 1.0

    def open(self, seed: np.random.SeedSequence) -> BufferedStream:
        """The requests of one course of chance."""
        return BufferedStream(_Renewals(self, seed))

    def peak_rps(self, seed: np.random.SeedSequence, until_s: float, window_s: float) -> float:
        """The greatest rate over any `window_s` up to `until_s` that this chance expects."""
        rate_at = self.rate.follow(np.random.default_rng(_children(seed)[0]))
        edges = np.arange(0.0, until_s, GRID_S)
        # As `_Renewals` asks, block by block: chance may depend on it.
        blocks = np.array_split(edges, np.arange(BLOCK_S, until_s, BLOCK_S).astype(int))
        rates = np.concatenate([rate_at(block + GRID_S / 2) for block in blocks])
        width = min(max(round(window_s / GRID_S), 1), len(rates))
        sums = np.concatenate([[0.0], np.cumsum(rates)])
        return float(np.max(sums[width:] - sums[:-width]) / width)


class _Renewals:
    """Renewals in operational time, the expected number of arrivals so far (time change)."""

    def __init__(self, law: Generated, seed: np.random.SeedSequence) -> None:
        self._law = law
        curve, self._gaps, self._lengths = map(np.random.default_rng, _children(seed))
        self._rate_at: RateAt = law.rate.follow(curve)
        self._start_s = 0.0
        self._expected = 0.0
        self._last = self._first_gap()

    def next_block(self) -> tuple[Requests, float]:
        """The requests of the next `BLOCK_S` seconds."""
        edges = self._start_s + np.arange(0.0, BLOCK_S + GRID_S / 2, GRID_S)
        rates = self._rate_at(edges[:-1] + GRID_S / 2)
        expected = self._expected + np.concatenate([[0.0], np.cumsum(rates * GRID_S)])
        moments = self._until(float(expected[-1]))
        self._start_s, self._expected = float(edges[-1]), float(expected[-1])
        # A second without a rate holds no moment: operational time stands still there.
        second = np.searchsorted(expected, moments, side="right") - 1
        times = edges[second] + (moments - expected[second]) / rates[second]
        return Requests(times, *self._law.lengths.draw(len(times), self._lengths)), self._start_s

    def _first_gap(self) -> float:
        # Evenly spaced servers must not all begin at once.
        if self._law.burstiness <= 0:
            return float(self._gaps.random())
        return float(self._draw(1)[0])

    def _until(self, end: float) -> FloatArray:
        """The renewals before `end`, from the one that is due."""
        parts = []
        while self._last < end:
            count = int((end - self._last) * 1.1) + 16
            moments = self._last + np.concatenate([[0.0], np.cumsum(self._draw(count))])
            parts.append(moments[:-1])
            self._last = float(moments[-1])
        if not parts:
            return np.zeros(0)
        found = np.concatenate(parts)
        cut = int(np.searchsorted(found, end, side="left"))
        if cut < len(found):
            self._last = float(found[cut])
        return found[:cut]

    def _draw(self, count: int) -> FloatArray:
        """Gaps of mean 1."""
        if self._law.burstiness <= 0:
            return np.ones(count)
        shape = self._law.burstiness**-2
        return self._gaps.gamma(shape, 1.0 / shape, count)


def _children(seed: np.random.SeedSequence) -> list[np.random.SeedSequence]:
    """Of the rate, the gaps and the lengths; the same however often they are asked for."""
    return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(3)


def _lognormal(mean: float, cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    if cv <= 0 or mean <= 0:
        return np.full(count, mean)
    variance = np.log1p(cv**2)
    return rng.lognormal(np.log(mean) - variance / 2.0, np.sqrt(variance), count)
