from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.readings import Missing, Present, Stale
from controlloop.collector.options import CollectorOptions, GatewayOptions
from controlloop.collector.series import MetricsUnavailableError, Series
from controlloop.errors import MetricsError

NOW = 1_000_000.0
TIMES = np.array([NOW - 57.0 + 5.0 * i for i in range(12)])
SPAN_S = 55.0


@pytest.fixture
def fronted(bench: Any) -> Any:
    """One server of one pod that finishes 2 requests/s, behind a gateway."""
    gateway = GatewayOptions(selector='gateway_requests_total{code!="429"}', server_label="server")
    bench.options = CollectorOptions(gateway=gateway)
    pods = bench.pods("llm", 1)
    bench.workload("llm", *pods)
    bench.engine(pods[0].name)
    return bench


def rate_of(server: Any) -> float:
    reading = server.signals.arrival_rate_rps
    assert isinstance(reading, Present)
    assert reading.age_s == 2.0
    return reading.value


def counted(bench: Any, values: Any, times: Any = TIMES, **labels: str) -> None:
    names = {"__name__": "gateway_requests_total", "job": "gateway", "instance": "g:1"}
    bench.series.append(
        Series(
            names | labels,
            tuple(np.array(times).tolist()),
            tuple(np.array(values, dtype=float).tolist()),
        )
    )


def test_what_the_gateway_counted_is_preferred(fronted: Any) -> None:
    counted(fronted, 3.0 * (TIMES - NOW + 100), server="llm")
    server = fronted.server()
    assert rate_of(server) == pytest.approx(3.0)
    assert server.holds == ()
    assert fronted.asked[-1] == 'gateway_requests_total{code!="429"}[60000ms]'
    assert len(fronted.asked) <= 12


def test_the_label_may_name_the_deployment_with_its_namespace(fronted: Any) -> None:
    fronted.workloads["llm"] = fronted.workload("llm", *fronted.pods("llm", 1), server="chat")
    counted(fronted, 3.0 * (TIMES - NOW + 100), server="llm", namespace="prod")
    counted(fronted, 9.0 * (TIMES - NOW + 100), server="llm", namespace="other")
    assert rate_of(fronted.server("chat")) == pytest.approx(3.0)


def test_several_gateways_and_codes_are_added_up(fronted: Any) -> None:
    for instance in ("g:1", "g:2"):
        for code in ("200", "500"):
            values = 1.0 * (TIMES - NOW + 100)
            counted(fronted, values, server="llm", code=code, instance=instance)
    assert rate_of(fronted.server()) == pytest.approx(4.0)


def test_a_gateway_that_restarts_is_counted_from_zero(fronted: Any) -> None:
    counted(fronted, np.r_[100:220:20, 5:125:20].astype(float), server="llm")
    assert rate_of(fronted.server()) == pytest.approx((100 + 5 + 100) / SPAN_S)


def test_the_first_request_of_a_server_at_zero_replicas_shows(fronted: Any) -> None:
    fronted.workload("llm")
    counted(fronted, 9.0 * (TIMES - NOW + 100), server="another")
    counted(fronted, [1.0, 1.0], TIMES[-2:], server="llm")
    assert rate_of(fronted.server()) == pytest.approx(1 / SPAN_S)


def test_a_gateway_that_counts_nothing_more_is_no_load(fronted: Any) -> None:
    fronted.series.clear()
    fronted.engine("llm-5d8f-aaaa0", 0.0, running=0.0)
    counted(fronted, [70.0] * 12, server="llm")
    assert fronted.server().signals.arrival_rate_rps == Present(0.0, 2.0)


def test_a_gateway_that_knows_of_less_than_came_is_not_believed(fronted: Any) -> None:
    counted(fronted, [70.0] * 12, server="llm")
    assert rate_of(fronted.server()) == pytest.approx(2.0)


def test_without_the_gateway_conservation_counts_and_nothing_shrinks(fronted: Any) -> None:
    server = fronted.server()
    assert rate_of(server) == pytest.approx(2.0)
    (hold,) = server.holds
    assert (hold.reason, hold.forbids) == (HoldReason.SIGNAL_MISSING, Forbids.DECREASE)
    assert "gateway" in hold.detail


@pytest.mark.parametrize("kind", [MetricsError, MetricsUnavailableError])
def test_a_gateway_query_that_fails_says_why(fronted: Any, kind: type[MetricsError]) -> None:
    fronted.faults["gateway"] = kind("parse error")
    seen = fronted.observe()
    assert "parse error" in seen.servers[0].holds[0].detail
    assert seen.metrics_problem == "parse error"


def test_an_old_count_of_the_gateway_is_stale(fronted: Any) -> None:
    counted(fronted, 3.0 * (TIMES[:2] - NOW + 100), TIMES[:2], server="llm")
    server = fronted.server()
    assert rate_of(server) == pytest.approx(2.0)
    assert "52 s old" in server.holds[0].detail
    fronted.workload("llm")
    assert isinstance(fronted.server().signals.arrival_rate_rps, Stale)


def test_a_server_at_zero_that_the_gateway_does_not_know_has_no_load_known(fronted: Any) -> None:
    fronted.workload("llm")
    assert isinstance(fronted.server().signals.arrival_rate_rps, Missing)
