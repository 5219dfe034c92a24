"""How decisions that nobody carried out, and what they rest on, compare with what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerShadow:
    """One server in one cycle; None where one of both is not known.

    Attributes:
        server: its name.
        predicted_itl_ms: by the model, for what serves and the load that was measured.
        observed_itl_ms: over the same window.
        predicted_ttft_ms: likewise, queueing included.
        observed_ttft_ms: likewise.
        expected_rps: the arrival rate that was expected for now.
        sized_rps: the rate that the decision of then was sized for.
        measured_rps: the rate that came.
        actual_cost: of what runs, cents/hour.
        desired_cost: of what would run, cents/hour.

    """

    server: str
    predicted_itl_ms: float | None = None
    observed_itl_ms: float | None = None
    predicted_ttft_ms: float | None = None
    observed_ttft_ms: float | None = None
    expected_rps: float | None = None
    sized_rps: float | None = None
    measured_rps: float | None = None
    actual_cost: float = 0.0
    desired_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class MeanError:
    """The mean of |predicted - observed| / observed, over so many comparisons."""

    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class ShadowScore:
    """This cycle, server by server, and what it has come to since `since`.

    Attributes:
        servers: in order of name.
        since: the time of the first cycle, seconds since the epoch.
        errors: of `itl`, `ttft` and `rate`; one that was never compared is absent.
        exceeded_share: share of measured rates above what had been sized for; None before any.
        saved_cents: what runs less what would run, in cost over time; negative where it costs more.

    """

    servers: tuple[ServerShadow, ...]
    since: float
    errors: Mapping[str, MeanError]
    exceeded_share: float | None
    saved_cents: float
