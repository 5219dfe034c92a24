"""Readings of a signal: zero is a measurement, missing is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Present:
    """A value whose newest sample is `age_s` old, fresh enough to act on."""

    value: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stale:
    """The last value known, `age_s` old: too old to act on, still worth showing."""

    value: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Missing:
    """No value, and why."""

    reason: str


Reading = Present | Stale | Missing


def value_of(reading: Reading) -> float | None:
    """The value of a present reading, else None."""
    return reading.value if isinstance(reading, Present) else None
