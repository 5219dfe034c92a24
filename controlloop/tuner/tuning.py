"""How to learn: what is assumed, what is let in, how fast is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlloop.tuner.belief import Doubt
from controlloop.tuner.measurement import Rules
from controlloop.tuner.noise import Noise


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to learn.

    Attributes:
        doubt: how wrong configured parameters may be.
        noise: how far measurements scatter.
        rules: what a measurement must be.
        gate: probability with which a measurement of a right belief passes the innovation gate.
        drift: least and greatest share of its distance to the prior that the covariance regains
            in an hour; it grows while innovations keep to one side.

    """

    doubt: Doubt = field(default_factory=Doubt)
    noise: Noise = field(default_factory=Noise)
    rules: Rules = field(default_factory=Rules)
    gate: float = 0.999
    drift: tuple[float, float] = (1e-5, 1.0)
