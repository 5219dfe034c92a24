"""What is expected of a server's load, by whom, and how well that did so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PREDICTORS: Final = (
    "average-fast",
    "average",
    "average-slow",
    "holt",
    "trend",
    "shift",
    "seasonal-daily",
    "seasonal-weekly",
)
"""What an ensemble mixes that is not told otherwise."""


class AsideReason(StrEnum):
    """Why a predictor is not used."""

    WORSE = "worse-than-last-value"
    FAILED = "failed"
    NOT_FINITE = "not-finite"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A predictor that is not used now, for how many servers, and the detail a person needs."""

    predictor: str
    reason: AsideReason
    servers: int
    detail: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The arrival rate of one server when a decision made now takes effect.

    Attributes:
        horizon_s: how far ahead that is, seconds.
        predictor: whose quantiles these are; "" while too little was seen to predict.
        mean_rps: the mean expected, requests/s; None without a predictor.
        quantiles_rps: by level (0.95 is the rate that is not exceeded 19 times of 20).
        losses_rps: recent pinball loss by predictor, where enough forecasts were scored.
        set_aside: predictors that do worse than the last value on this server.

    """

    horizon_s: float
    predictor: str = ""
    mean_rps: float | None = None
    quantiles_rps: Mapping[float, float] = field(default_factory=dict)
    losses_rps: Mapping[str, float] = field(default_factory=dict)
    set_aside: tuple[str, ...] = ()
