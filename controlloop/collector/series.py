"""Raw series: the samples of one range selector with the times at which they were scraped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.errors import MetricsError


class MetricsUnavailableError(MetricsError):
    """The metric source does not answer at all: asking it again in this cycle is no use."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series; `times` (n,) in seconds since the epoch, rising; `values` (n,), all finite.

    A series that holds NaN or infinities has those samples left out, so n may be 0.
    """

    labels: Mapping[str, str]
    times: FloatArray
    values: FloatArray

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.labels.get("__name__", "")

    def label(self, name: str) -> str:
        """The value of a label, "" where the series has none of that name."""
        return self.labels.get(name, "")


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
    times = np.array([sample[0] for sample in samples], dtype=np.float64)
    values = np.array([float(sample[1]) for sample in samples], dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        times, values = times[finite], values[finite]
    return Series(dict(entry["metric"]), times, values)
