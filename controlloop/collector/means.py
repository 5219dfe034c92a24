"""Means over the window from pairs of counters: a sum and how often it was added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlloop.collector.dialects import Ratio
from controlloop.collector.flow import all_times, count, named, shared_times, value_at
from controlloop.collector.series import Endpoint, Series


@dataclass(frozen=True, slots=True)
class Tally:
    """What one endpoint added up: in the window, and since it started.

    `last` is the time of the newest sample, seconds since the epoch.
    """

    total: float
    count: float
    total_since_start: float
    count_since_start: float
    last: float


def tally_of(endpoint: Endpoint, ratios: Sequence[Ratio]) -> Tally | None:
    """The tally of the first of `ratios` of which the endpoint shows both parts, else None."""
    for ratio in ratios:
        totals = named(endpoint, (ratio.total,))
        counts = named(endpoint, (ratio.count,))
        times = shared_times(all_times(totals), all_times(counts))
        if times:
            return Tally(
                total=count(totals, times).total,
                count=count(counts, times).total,
                total_since_start=_shown_at(totals, times[-1]),
                count_since_start=_shown_at(counts, times[-1]),
                last=times[-1],
            )
    return None


def _shown_at(counters: Sequence[Series], time: float) -> float:
    return sum([value_at(one, time) for one in counters], 0.0)
