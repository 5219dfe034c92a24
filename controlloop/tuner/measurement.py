"""What one replica showed over one interval, and why that may count for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controlloop.units import s_from_ms

_STILL: Final = 1e-3
_SAME_LOAD: Final = 0.1


class Rejection(StrEnum):
    """Every reason for which an observation teaches nothing."""

    IDLE = "idle"
    MISSING = "missing"
    STALE = "stale"
    NOT_FINITE = "not-finite"
    NOT_POSITIVE = "not-positive"
    TOO_FEW_REQUESTS = "too-few-requests"
    TIME_BACKWARDS = "time-backwards"
    FROZEN = "frozen"
    CHANGING = "changing"
    MIXED = "mixed"
    BATCH_UNKNOWN = "batch-unknown"
    UNKNOWN_PAIR = "unknown-pair"
    UNPREDICTABLE = "unpredictable"
    OUTLIER = "outlier"


@dataclass(frozen=True, slots=True)
class Measurement:
    """Means of one replica over one interval.

    Attributes:
        time: end of the interval, seconds since the epoch.
        rate_rps: arrivals at the replica, requests/s.
        input_tokens: mean input tokens of a request.
        output_tokens: mean output tokens of a request.
        max_batch: requests in service at most.
        itl_ms: mean time between output tokens.
        ttft_ms: mean time to first token; None where it was not measured, as all that follow.
        requests: requests behind the means.
        throughput_rps: completions, requests/s.
        running: requests in service.
        queue_seen: whether a queue was seen to stand, grow or drain, or did shortly before.
        source: which replica or server it is of.

    """

    time: float
    rate_rps: float
    input_tokens: float
    output_tokens: float
    max_batch: int
    itl_ms: float
    ttft_ms: float | None = None
    requests: float | None = None
    throughput_rps: float | None = None
    running: float | None = None
    queue_seen: bool = False
    source: str = ""

    @property
    def queued(self) -> bool:
        """Whether TTFT tells of the past, and the replica serves all that it can at once.

        So it is where a queue was seen, and where by Little's law the arrivals of the interval,
        each there for as long as was measured, are more than can be in service.
        """
        stay_ms = (self.ttft_ms or 0.0) + (self.output_tokens - 1) * self.itl_ms
        return self.queue_seen or self.rate_rps * s_from_ms(stay_ms) >= self.max_batch

    @property
    def in_service(self) -> int:
        """The most that it served at once: while requests wait, what runs is all that it can."""
        if self.queued and self.running is not None and 1 <= self.running < self.max_batch:
            return round(self.running)
        return self.max_batch


@dataclass(frozen=True, slots=True)
class Rules:
    """What a measurement must be to count.

    `min_requests`: fewer requests than these say nothing of a mean.
    """

    min_requests: float = 3.0


def flaw(measurement: Measurement, rules: Rules) -> Rejection | None:
    """Why a measurement by itself teaches nothing; None where it may."""
    needed = (
        measurement.time,
        measurement.rate_rps,
        measurement.input_tokens,
        measurement.output_tokens,
        measurement.itl_ms,
    )
    extra = tuple(_known(measurement))
    if not all(map(math.isfinite, (*needed, *extra))):
        return Rejection.NOT_FINITE
    if min(measurement.output_tokens, measurement.itl_ms) <= 0:
        return Rejection.NOT_POSITIVE
    # A queue drains best while nothing arrives.
    if measurement.rate_rps < 0 or (measurement.rate_rps == 0 and not measurement.queue_seen):
        return Rejection.NOT_POSITIVE
    if measurement.input_tokens < 0 or measurement.max_batch < 1 or min(extra, default=1.0) <= 0:
        return Rejection.NOT_POSITIVE
    if measurement.requests is not None and measurement.requests < rules.min_requests:
        return Rejection.TOO_FEW_REQUESTS
    return None


def repeats(measurement: Measurement, former: Measurement) -> bool:
    """Whether a mean is, to the last bit, that of the interval before, though all else moved.

    Then a counter stands still. Where all else stands still too, so may the server: one that
    works with no scatter at all under a constant load.
    """
    itl, ttft = measurement.itl_ms, measurement.ttft_ms
    if itl != former.itl_ms and (ttft is None or ttft != former.ttft_ms):
        return False
    still = math.isclose(itl, former.itl_ms, rel_tol=_STILL) and (
        ttft is None or former.ttft_ms is None or math.isclose(ttft, former.ttft_ms, rel_tol=_STILL)
    )
    return not (still and math.isclose(measurement.rate_rps, former.rate_rps, rel_tol=_SAME_LOAD))


def _known(measurement: Measurement) -> Iterator[float]:
    values = (
        measurement.ttft_ms,
        measurement.requests,
        measurement.throughput_rps,
        measurement.running,
    )
    return (value for value in values if value is not None)
