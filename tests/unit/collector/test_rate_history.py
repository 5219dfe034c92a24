"""Arrivals of the past from range queries."""

from __future__ import annotations

import numpy as np
import pytest

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.clock import ManualClock
from controlloop.collector.options import CollectorOptions
from controlloop.collector.rate_history import PrometheusHistory
from controlloop.collector.series import Series
from controlloop.errors import DeadlineError

CHAT = Workload(WorkloadRef("llm", "chat-vllm"), "chat", "m", "Free", "A100", 32, 1)


class Ranges:
    """Answers by what a query mentions."""

    def __init__(self, clock: ManualClock, takes_s: float = 0.0) -> None:
        self.queries: list[str] = []
        self.clock, self.takes_s = clock, takes_s

    def query_range(
        self, query: str, start: float, end: float, step_s: float, timeout_s: float
    ) -> tuple[Series, ...]:
        self.queries.append(query)
        self.clock.advance(self.takes_s)
        shown = {"rate(vllm:request_success": [2.0, 2.0, 5.0], "delta(": [1.0, -9.0, 0.5]}
        values = next((it for key, it in shown.items() if key in query), None)
        if values is None:
            return ()
        assert end - start == 3 * step_s
        # Prometheus knows nothing of the first interval.
        times = tuple(start + step_s * place for place in (1, 2, 3))
        labels = {"namespace": "llm", "workload": "chat-vllm"}
        other = {"namespace": "llm", "workload": "stranger"}
        return Series(labels, times, tuple(values)), Series(other, times, tuple(values))


def test_arrivals_are_what_finished_and_what_is_inside_more_than_before() -> None:
    clock = ManualClock(1000.0)
    source = Ranges(clock)
    found = PrometheusHistory(source, CollectorOptions(matchers='job="a"'), clock).rates_rps(
        1000.0, [CHAT], 4, 60.0
    )
    assert set(found) == {"chat"}
    assert found["chat"][1:] == pytest.approx([3.0, 0.0, 5.5])
    assert np.isnan(found["chat"][0])
    assert all('job="a"' in query for query in source.queries)
    assert any("delta(vllm:num_requests_waiting" in query for query in source.queries)
    assert all("sum by (namespace, workload)" in query for query in source.queries)
    assert len(source.queries) == 2


def test_over_a_long_step_only_what_finished_is_asked_for() -> None:
    clock = ManualClock(1000.0)
    source = Ranges(clock)
    found = PrometheusHistory(source, CollectorOptions(), clock).rates_rps(9000.0, [CHAT], 4, 900.0)
    assert found["chat"][1:] == pytest.approx([2.0, 2.0, 5.0])
    assert not any("delta" in query for query in source.queries)
    assert all("[900000ms]" in query for query in source.queries)


def test_all_queries_together_have_one_time_limit() -> None:
    clock = ManualClock(1000.0)
    options = CollectorOptions(query_timeout_s=10.0)
    history = PrometheusHistory(Ranges(clock, takes_s=11.0), options, clock)
    with pytest.raises(DeadlineError):
        history.rates_rps(1000.0, [CHAT], 4, 60.0)
