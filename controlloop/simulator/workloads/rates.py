"""Rates of arrival over time: steady, steps, days, and phases of chance; with or without a wander.

A rate is asked for in order of time, so that it may have a memory; see `RateCurve`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.simulator.traffic import DayCurve

# Requests/s at times (n,) in seconds, evenly spaced and each later than those asked before.
RateAt = Callable[[FloatArray], FloatArray]


@runtime_checkable
class RateCurve(Protocol):
    """A rate of arrival over time, which may depend on chance."""

    def follow(self, rng: np.random.Generator) -> RateAt:
        """The rate in one course of chance."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """The same rate always, requests/s."""

    rate_rps: float

    def follow(self, rng: np.random.Generator) -> RateAt:  # noqa: ARG002 - the protocol's argument
        """The rate."""
        return lambda times: np.full(len(times), self.rate_rps)


@dataclass(frozen=True, slots=True)
class Steps:
    """Rates that hold from one moment to the next: ((from_s, rate_rps), ...), rising from 0 s.

    Before the first moment nothing arrives. With `every_s` the steps begin anew after so long.
    """

    steps: tuple[tuple[float, float], ...]
    every_s: float = np.inf

    def follow(self, rng: np.random.Generator) -> RateAt:  # noqa: ARG002 - the protocol's argument
        """The step of each moment."""
        starts = np.array([start for start, _ in self.steps])
        rates = np.array([0.0, *(rate for _, rate in self.steps)])

        def at(times: FloatArray) -> FloatArray:
            within = np.mod(times, self.every_s) if np.isfinite(self.every_s) else times
            return np.asarray(rates[np.searchsorted(starts, within, side="right")])

        return at


@dataclass(frozen=True, slots=True)
class Daily:
    """A day of the curve, repeated, at `pace` times its own; its noise is left to `Wandering`."""

    curve: DayCurve
    pace: float = 1.0

    def follow(self, rng: np.random.Generator) -> RateAt:  # noqa: ARG002 - the protocol's argument
        """The curve's mean."""
        return lambda times: self.curve.mean_rps(times * self.pace)


@dataclass(frozen=True, slots=True)
class OnOff:
    """Phases of one rate and of another, each of a random length (exponential), on first."""

    on_rps: float
    off_rps: float
    on_s: float
    off_s: float

    def follow(self, rng: np.random.Generator) -> RateAt:
        """The phase of each moment."""
        state = {"on": True, "until": rng.exponential(self.on_s)}

        def one(time: float) -> float:
            while time >= state["until"]:
                state["on"] = not state["on"]
                state["until"] += rng.exponential(self.on_s if state["on"] else self.off_s)
            return self.on_rps if state["on"] else self.off_rps

        return lambda times: np.array([one(time) for time in times.tolist()])


@dataclass(frozen=True, slots=True)
class Wandering:
    """Another curve times a slow random factor: lognormal, of mean 1.

    The logarithm is an Ornstein-Uhlenbeck process.

    Attributes:
        curve: the rate that is followed on average.
        noise: relative standard deviation, roughly; 0 is none.
        memory_s: the time over which the factor forgets itself.

    """

    curve: RateCurve
    noise: float
    memory_s: float = 1800.0

    def follow(self, rng: np.random.Generator) -> RateAt:
        """The curve's rate, wandering."""
        inner = self.curve.follow(rng)
        level = float(rng.standard_normal())
        before: float | None = None

        def at(times: FloatArray) -> FloatArray:
            nonlocal level, before
            factors = np.empty(len(times))
            kicks = rng.standard_normal(len(times)).tolist()
            for index, (time, kick) in enumerate(zip(times.tolist(), kicks, strict=True)):
                kept = 1.0 if before is None else np.exp(-(time - before) / self.memory_s)
                level = kept * level + np.sqrt(1.0 - kept**2) * kick
                before = time
                factors[index] = level
            return inner(times) * np.exp(self.noise * factors - self.noise**2 / 2.0)

        return at
