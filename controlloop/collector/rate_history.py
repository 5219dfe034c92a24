"""Arrival rates of the past, asked of Prometheus once: what the fleet did before we looked.

By conservation of flow, as in each cycle: what was finished or turned away, and the change of
what runs and waits. Pods of the past are told by their names, which begin with their
Deployment's; what Prometheus does not know is missing, not zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from controlloop.api.observation import Workload
from controlloop.api.replicas import FloatArray
from controlloop.clock import Clock, Deadline
from controlloop.collector.dialects import Vocabulary, vocabulary_of
from controlloop.collector.fleet import selector_of
from controlloop.collector.options import CollectorOptions
from controlloop.collector.series import Series

_WORKLOAD: Final = "workload"
_METRIC: Final = "metric"
_OF_POD: Final = "(.+)-[^-]+-[^-]+"


class RangeSource(Protocol):
    """Answers range queries."""

    def query_range(
        self, query: str, start: float, end: float, step_s: float, timeout_s: float
    ) -> tuple[Series, ...]:
        """The values of `query` at `start`, `start + step_s`, ... up to `end`.

        Raises:
            MetricsError: there is no whole answer.

        """
        ...


class PrometheusHistory:
    """Implements `protocols.RateHistory` over a Prometheus.

    Args:
        source: what is asked.
        options: how series are found.
        clock: measures the time that is left.

    """

    def __init__(self, source: RangeSource, options: CollectorOptions, clock: Clock) -> None:
        self._source = source
        self._options = options
        self._clock = clock
        self._words: Vocabulary = vocabulary_of(options.dialects)

    def rates_rps(
        self, end: float, workloads: Sequence[Workload], slots: int, step_s: float
    ) -> Mapping[str, FloatArray]:
        """The arrival rates of the `slots` intervals up to `end`, by server; NaN where unknown.

        Raises:
            MetricsError: a query has no whole answer in time.
            DeadlineError: the time for all of them is up.

        """
        deadline = Deadline(self._clock, self._options.query_timeout_s)
        names = {(one.ref.namespace, one.ref.name): one.server for one in workloads}
        finished: dict[str, FloatArray] = {}
        grown: dict[str, FloatArray] = {}
        start = end - (slots - 1) * step_s
        for query, counts in self._queries(step_s):
            timeout_s = deadline.timeout_s(self._options.query_timeout_s, "asking for the past")
            for one in self._source.query_range(query, start, end, step_s, timeout_s):
                key = (one.label(self._options.namespace_label), one.label(_WORKLOAD))
                if key not in names or not one.times:
                    continue
                total = (finished if counts else grown).setdefault(
                    names[key], np.full(slots, np.nan)
                )
                places = np.rint((np.array(one.times) - start) / step_s).astype(np.int64)
                inside = (places >= 0) & (places < slots)
                places = places[inside]
                total[places] = np.nan_to_num(total[places]) + np.array(one.values)[inside]
        # Without a count of what was finished nothing is known; without a level, it stood still.
        return {
            name: np.maximum(rate + np.nan_to_num(grown.get(name, np.zeros(slots))), 0.0)
            for name, rate in finished.items()
        }

    def _queries(self, step_s: float) -> Iterator[tuple[str, bool]]:
        """Each query, and whether it counts what was finished; two at most, however many names."""
        words = self._words
        window_s = max(step_s, self._options.window_s)
        yield self._by_workload("rate({})", (*words.completions, *words.rejections), window_s), True
        # Over a long time what is inside is little beside what went through.
        if step_s <= 2 * self._options.window_s:
            grown = f"delta({{}}) / {window_s:.3f}"
            yield self._by_workload(grown, (*words.running, *words.waiting), window_s), False

    def _by_workload(self, expression: str, metrics: Sequence[str], window_s: float) -> str:
        """The sum over all pods and metrics of a workload."""
        told = []
        for metric in metrics:
            values = expression.format(selector_of([metric], self._options, window_s))
            workload = f'"{_WORKLOAD}", "$1", "{self._options.pod_label}", "{_OF_POD}"'
            # Functions drop the name; another label keeps `or` from taking one metric for another.
            named = f"label_replace({values}, {workload})"
            told.append(f'label_replace({named}, "{_METRIC}", "{metric}", "", "")')
        labels = f"{self._options.namespace_label}, {_WORKLOAD}"
        return f"sum by ({labels}) ({' or '.join(told)})"
