"""Raw series: the samples of one range selector with the times at which they were scraped."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

from controlloop.errors import MetricsError

Samples = tuple[float, ...]
"""Times or values. A window holds a dozen of them, too few for arrays to be the quicker."""


class MetricsUnavailableError(MetricsError):
    """The metric source does not answer at all: asking it again in this cycle is no use."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series; `times` in seconds since the epoch, rising; as many `values`, all finite.

    A series that holds NaN or infinities has those samples left out, so n may be 0.
    """

    labels: Mapping[str, str]
    times: Samples
    values: Samples

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.labels.get("__name__", "")

    def label(self, name: str) -> str:
        """The value of a label, "" where the series has none of that name."""
        return self.labels.get(name, "")

    def between(self, begin: float, end: float) -> Series:
        """Its samples from `begin` to `end`, both included."""
        inside = slice(bisect_left(self.times, begin), bisect_right(self.times, end))
        return Series(self.labels, self.times[inside], self.values[inside])


Endpoint = Mapping[str, Sequence[Series]]
"""What one endpoint shows, by the metric's name: all of it was scraped at the same times."""


class MetricSource(Protocol):
    """Answers range selectors."""

    def select(self, selector: str, now: float, timeout_s: float) -> tuple[Series, ...]:
        """The raw samples of `selector` (`metric{...}[window]`) in the window that ends at `now`.

        Raises:
            MetricsUnavailableError: the source does not answer.
            MetricsError: it refuses this query, or knows only a part of the answer.

        """
        ...


def parse_matrix(result: object) -> tuple[Series, ...]:
    """The series of a Prometheus answer of type matrix.

    Raises:
        MetricsError: it is not a matrix.

    """
    if not isinstance(result, list):
        raise MetricsError(f"the answer is no list of series but {type(result).__name__}")
    try:
        return tuple(_series(entry) for entry in result)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise MetricsError(f"the answer is not what a range selector gives: {error!r}") from error


def _series(entry: Any) -> Series:
    samples = entry["values"]
    times = tuple([float(time) for time, _ in samples])
    values = tuple([float(value) for _, value in samples])
    if not all(map(isfinite, values)):
        finite = [at for at, value in enumerate(values) if isfinite(value)]
        times, values = tuple(times[at] for at in finite), tuple(values[at] for at in finite)
    return Series(dict(entry["metric"]), times, values)
