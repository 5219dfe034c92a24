"""The fluid replica obeys the queueing model that it stands for."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from testbed.emulator import frozen, not_a_number, without_series
from testbed.exposition import OLD_ITL_NAME, vllm_page
from testbed.replica import FluidReplica, Load, Service

SERVICE = Service(alpha_ms=20, beta_ms=1, gamma_ms=10, delta_ms=0.02)
LOAD = Load(rate_rps=2.0, input_tokens=100, output_tokens=51)
BATCH = 16


def run(replica: FluidReplica, load: Load, start: float, end: float) -> None:
    replica.advance(start)
    replica.load = load
    replica.advance(end)


def test_below_saturation_all_that_arrives_completes_without_waiting() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    run(replica, LOAD, 0, 1000)
    assert replica.completed == pytest.approx(2 * 1000, abs=10)
    assert replica.waiting == 0
    assert replica.queue_time.sum == pytest.approx(0, abs=1e-6)


def test_the_number_in_service_obeys_littles_law() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    run(replica, LOAD, 0, 1000)
    mean_response_s = replica.response.sum / replica.response.count
    assert replica.running == pytest.approx(2 * mean_response_s, abs=1)


def test_beyond_saturation_it_completes_at_the_greatest_rate_and_the_queue_keeps_the_rest() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    greatest_rps = SERVICE.greatest_rate_rps(LOAD, BATCH)
    load = Load(4 * greatest_rps, LOAD.input_tokens, LOAD.output_tokens)
    run(replica, load, 0, 100)
    before = replica.completed
    replica.advance(200)
    assert replica.completed - before == pytest.approx(100 * greatest_rps, rel=0.01)
    assert replica.running == BATCH
    arrived = 200 * 4 * greatest_rps
    assert replica.completed + replica.running + replica.waiting == pytest.approx(arrived, abs=2)


def test_the_first_token_of_an_overloaded_server_tells_of_the_past() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    load = Load(4 * SERVICE.greatest_rate_rps(LOAD, BATCH), 100, 51)
    run(replica, load, 0, 100)
    count, total = replica.ttft.count, replica.ttft.sum
    replica.advance(101)
    newest_s = (replica.ttft.sum - total) / (replica.ttft.count - count)
    # A quarter of what arrived in 100 s was admitted: what is admitted now came at about 25 s.
    assert newest_s == pytest.approx(75, rel=0.05)


def test_requests_that_give_up_are_counted_nowhere() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    greatest_rps = SERVICE.greatest_rate_rps(LOAD, BATCH)
    run(replica, Load(4 * greatest_rps, 100, 51, patience_s=5), 0, 300)
    assert replica.completed == pytest.approx(300 * greatest_rps, rel=0.02)
    assert replica.waiting == pytest.approx(5 * 4 * greatest_rps, rel=0.1)


def test_the_page_reads_as_prometheus_reads_it_and_agrees_with_the_replica() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    run(replica, LOAD, 0, 60)
    values = {
        (sample.name, sample.labels.get("finished_reason"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(vllm_page(replica, "tiny"))
        for sample in family.samples
    }
    assert values["vllm:request_success_total", "length", None] == replica.completed
    assert values["vllm:num_requests_running", None, None] == replica.running
    bucket = values["vllm:time_to_first_token_seconds_bucket", None, "+Inf"]
    assert bucket == values["vllm:time_to_first_token_seconds_count", None, None] > 0
    itl_s = (
        values["vllm:inter_token_latency_seconds_sum", None, None]
        / (values["vllm:inter_token_latency_seconds_count", None, None])
    )
    assert SERVICE.itl_s(1) <= itl_s <= SERVICE.itl_s(BATCH)


def test_an_older_engine_has_the_older_name() -> None:
    page = vllm_page(FluidReplica(SERVICE, BATCH, now=0), "tiny", OLD_ITL_NAME)
    assert f"{OLD_ITL_NAME}_count" in page
    assert "inter_token_latency" not in page


def test_faults_change_the_page_and_nothing_else() -> None:
    replica = FluidReplica(SERVICE, BATCH, now=0)
    run(replica, LOAD, 0, 60)
    early = vllm_page(replica, "tiny")
    replica.advance(120)
    late = vllm_page(replica, "tiny")
    freeze = frozen()
    assert early != late
    assert [freeze(early), freeze(late)] == [early, early]
    assert "vllm:" not in without_series(late)
    nothing = [
        sample.value
        for family in text_string_to_metric_families(not_a_number(late))
        for sample in family.samples
        if sample.name.startswith("vllm:")
    ]
    assert nothing
    assert all(value != value for value in nothing)  # noqa: PLR0124 - NaN alone differs from itself
