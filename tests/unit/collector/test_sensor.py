from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.node_cards import NodeCards
from controlloop.api.observation import Pod, Workload, WorkloadRef
from controlloop.api.readings import Missing, Present, Reading, Stale
from controlloop.api.system import Load
from controlloop.clock import Deadline, ManualClock
from controlloop.collector.options import CapacityOptions, CapacitySource, CollectorOptions
from controlloop.collector.sensor import FleetSensor
from controlloop.collector.series import MetricsUnavailableError
from controlloop.errors import DeadlineError, MetricsError, UnavailableError, UnknownPluginError

NOW = 1_000_000.0


def value(reading: Reading) -> float:
    assert isinstance(reading, Present), reading
    return reading.value


def fleet(bench: Any, count: int, rate_rps: float = 2.0) -> tuple[Pod, ...]:
    """A server `llm` of `count` pods, all of which report."""
    pods: tuple[Pod, ...] = bench.pods("llm", count)
    bench.workload("llm", *pods)
    for pod in pods:
        bench.engine(pod.name, rate_rps)
    return pods


def reasons(server: Any) -> set[HoldReason]:
    return {hold.reason for hold in server.holds}


def test_a_healthy_server_is_known_whole_and_nothing_is_held(bench: Any) -> None:
    fleet(bench, 3)
    server = bench.server()
    signals = server.signals
    assert value(signals.arrival_rate_rps) == pytest.approx(6.0)
    assert value(signals.completion_rate_rps) == pytest.approx(6.0)
    assert value(signals.input_tokens) == pytest.approx(100.0)
    assert value(signals.output_tokens) == pytest.approx(50.0)
    assert value(signals.ttft_ms) == pytest.approx(200.0)
    assert value(signals.itl_ms) == pytest.approx(20.0)
    assert value(signals.running) == 12.0
    assert value(signals.waiting) == 0.0
    assert (signals.reported_pods, signals.expected_pods) == (3, 3)
    assert server.holds == ()


def test_the_true_age_of_the_sample_counts_not_the_time_of_the_query(bench: Any) -> None:
    fleet(bench, 1)
    bench.now += 20.0
    reading = bench.server().signals.arrival_rate_rps
    assert isinstance(reading, Present)
    assert reading.age_s == pytest.approx(22.0)


@pytest.mark.parametrize(
    "itl", ["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"]
)
def test_old_and_new_names_of_the_engine_are_understood(bench: Any, itl: str) -> None:
    (pod,) = bench.pods("llm", 1)
    bench.workload("llm", pod)
    bench.engine(pod.name, itl=itl)
    assert value(bench.server().signals.itl_ms) == pytest.approx(20.0)


def test_pods_of_both_versions_count_side_by_side_and_both_names_only_once(bench: Any) -> None:
    first, second = fleet(bench, 2)
    bench.drop("vllm:inter_token_latency", first.name)
    old = "vllm:time_per_output_token_seconds"
    # 100 tokens of 40 ms within the window of the first; the second shows both names.
    bench.show(first.name, f"{old}_sum", lambda time: 0.04 * 2.0 * (time - NOW))
    bench.show(first.name, f"{old}_count", lambda time: 2.0 * (time - NOW))
    bench.show(second.name, f"{old}_sum", lambda time: 9.0 * (time - NOW))
    bench.show(second.name, f"{old}_count", lambda time: 1.0 * (time - NOW))
    assert value(bench.server().signals.itl_ms) == pytest.approx(30.0)


def test_means_weigh_pods_by_their_traffic(bench: Any) -> None:
    busy, idle = bench.pods("llm", 2)
    bench.workload("llm", busy, idle)
    bench.engine(busy.name, 9.0, output_tokens=100.0)
    bench.engine(idle.name, 1.0, output_tokens=500.0)
    assert value(bench.server().signals.output_tokens) == pytest.approx(140.0)


def test_a_pod_without_a_reading_counts_in_neither_sum_of_a_mean(bench: Any) -> None:
    _, second = fleet(bench, 2)
    bench.drop("vllm:request_generation_tokens_count", second.name)
    assert value(bench.server().signals.output_tokens) == pytest.approx(50.0)


def test_a_pod_whose_reading_is_old_counts_in_neither_sum_of_a_mean(bench: Any) -> None:
    old, new = bench.pods("llm", 2)
    bench.workload("llm", old, new)
    bench.engine(old.name, output_tokens=500.0, times=[NOW - 57, NOW - 52])
    bench.engine(new.name, output_tokens=50.0)
    assert value(bench.server().signals.output_tokens) == pytest.approx(50.0)


def test_no_load_is_a_measurement(bench: Any) -> None:
    fleet(bench, 2, rate_rps=0.0)
    bench.change("vllm:num_requests_running", 0.0)
    server = bench.server()
    assert server.signals.arrival_rate_rps == Present(0.0, 2.0)
    assert server.holds == ()


def test_no_sample_is_not_a_measurement(bench: Any) -> None:
    fleet(bench, 2)
    bench.drop("vllm:num_requests_running")
    server = bench.server()
    assert isinstance(server.signals.arrival_rate_rps, Missing)
    assert "running" in server.signals.arrival_rate_rps.reason
    assert HoldReason.SIGNAL_MISSING in reasons(server)


def test_while_a_pod_is_silent_the_sums_are_scaled_to_what_the_others_carry(bench: Any) -> None:
    pods = fleet(bench, 4)
    bench.drop("vllm:", pods[0].name)
    server = bench.server()
    assert value(server.signals.arrival_rate_rps) == pytest.approx(8.0)
    assert value(server.signals.running) == pytest.approx(16.0)
    assert (server.signals.reported_pods, server.signals.expected_pods) == (3, 4)
    assert reasons(server) == {HoldReason.POD_NOT_REPORTING}


def test_pods_that_have_just_become_ready_do_not_multiply_the_load(bench: Any) -> None:
    old = bench.pods("llm", 2)
    new = [replace(pod, name=pod.name + "x", ready_since=NOW - 3.0) for pod in bench.pods("llm", 4)]
    bench.workload("llm", *old, *new)
    for pod in old:
        bench.engine(pod.name, 15.0)
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(30.0, rel=0.15)


def test_load_that_moves_to_a_new_pod_is_counted_once(bench: Any) -> None:
    old, new = bench.pods("llm", 2)
    new = replace(new, ready_since=NOW - 30.0)
    bench.workload("llm", old, new)

    def shared(time: float) -> float:
        alone = min(time, NOW - 27.0) - (NOW - 100.0)
        return 10.0 * alone + 5.0 * max(time - (NOW - 27.0), 0.0)

    bench.engine(old.name, 0.0)
    bench.drop("vllm:request_success_total", old.name)
    bench.show(old.name, "vllm:request_success_total", shared)
    late = tuple(NOW - 27.0 + 5.0 * i for i in range(6))
    bench.engine(new.name, 5.0, times=late)
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(10.0)


def test_what_a_pod_did_that_is_gone_still_arrived(bench: Any) -> None:
    kept, gone = fleet(bench, 2, rate_rps=5.0)
    bench.observe()
    # It served until 27 s ago; then the other took all.
    bench.workload("llm", kept)
    bench.drop("vllm:", gone.name)
    bench.engine(gone.name, 5.0, times=tuple(NOW - 57.0 + 5.0 * i for i in range(7)))

    def takes_over(time: float) -> float:
        return 5.0 * (time - NOW + 100) + 5.0 * max(time - (NOW - 27.0), 0.0)

    bench.drop("vllm:request_success_total", kept.name)
    bench.show(kept.name, "vllm:request_success_total", takes_over)
    server = bench.server()
    assert value(server.signals.arrival_rate_rps) == pytest.approx(10.0)
    assert HoldReason.POD_GONE in reasons(server)


def test_a_pod_that_is_leaving_and_silent_does_not_scale_the_others(bench: Any) -> None:
    kept, leaving = fleet(bench, 2, rate_rps=5.0)
    bench.workload("llm", kept, replace(leaving, ready=False, terminating=True))
    bench.drop("vllm:", leaving.name)
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(5.0)


def test_a_pod_that_fails_its_readiness_probe_in_overload_still_carries_load(bench: Any) -> None:
    first, second = fleet(bench, 2)
    bench.workload("llm", first, replace(second, ready=False, ready_since=None))
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(4.0)


def test_one_long_request_alone_is_no_frozen_page(bench: Any) -> None:
    (pod,) = bench.pods("llm", 1)
    bench.workload("llm", pod)
    bench.engine(pod.name, 0.0, running=1.0)
    bench.change("vllm:inter_token_latency_seconds_count", lambda time: 40 * (time - NOW + 99))
    server = bench.server()
    assert value(server.signals.arrival_rate_rps) == 0.0
    assert server.holds == ()


def test_one_sample_in_the_window_makes_no_rate(bench: Any) -> None:
    (pod,) = bench.pods("llm", 1)
    bench.workload("llm", pod)
    bench.engine(pod.name, times=(NOW - 2.0,))
    rate = bench.server().signals.arrival_rate_rps
    assert isinstance(rate, Missing)
    assert "only one sample" in rate.reason


def test_values_that_are_not_numbers_are_no_values(bench: Any) -> None:
    fleet(bench, 2)
    for metric in ("vllm:num_requests_running", "vllm:num_requests_waiting"):
        bench.change(metric, float("nan"))
    server = bench.server()
    assert isinstance(server.signals.arrival_rate_rps, Missing)
    assert isinstance(server.signals.waiting, Missing)
    assert HoldReason.SIGNAL_MISSING in reasons(server)


def test_old_samples_are_shown_as_stale_with_their_age(bench: Any) -> None:
    fleet(bench, 2)
    bench.now += 48.0
    server = bench.server()
    rate = server.signals.arrival_rate_rps
    assert isinstance(rate, Stale)
    assert rate.age_s == pytest.approx(50.0)
    assert rate.value == pytest.approx(4.0)
    assert HoldReason.SIGNAL_STALE in reasons(server)


def test_requests_of_a_pod_that_two_jobs_scrape_count_once(bench: Any) -> None:
    fleet(bench, 1)
    for one in list(bench.series):
        bench.series.append(replace(one, labels={**one.labels, "job": "other"}))
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(2.0)


def test_engines_behind_two_ports_of_one_pod_are_added_up(bench: Any) -> None:
    fleet(bench, 1)
    for one in list(bench.series):
        other = replace(one, labels={**one.labels, "instance": "10.0.0.1:8001"})
        bench.series.append(replace(other, times=tuple(time + 1.0 for time in other.times)))
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(4.0)


def test_the_number_of_queries_does_not_grow_with_the_servers(bench: Any) -> None:
    for i in range(50):
        pods = bench.pods(f"llm-{i}", 2)
        bench.workload(f"llm-{i}", *pods)
        for pod in pods:
            bench.engine(pod.name)
    seen = bench.observe()
    assert len(bench.asked) <= 12
    rates = [value(one.signals.arrival_rate_rps) for one in seen.servers]
    assert rates == pytest.approx([4.0] * 50)


def test_buckets_are_never_asked_for_and_a_restriction_is_passed_on(bench: Any) -> None:
    bench.options = CollectorOptions(namespaces=("prod", "a.b"), matchers='cluster="x"')
    bench.observe()
    assert not any("bucket" in query for query in bench.asked)
    restricted = 'namespace=~"prod|a\\\\.b",cluster="x"'
    assert all(restricted in query for query in bench.asked)


def test_series_under_other_labels_are_found_when_told_so(bench: Any) -> None:
    fleet(bench, 1)
    bench.series = [
        replace(one, labels={**one.labels, "kube_pod": one.labels["pod"], "pod": "exporter"})
        for one in bench.series
    ]
    bench.options = CollectorOptions(pod_label="kube_pod")
    assert value(bench.server().signals.arrival_rate_rps) == pytest.approx(2.0)


def test_series_without_a_pod_are_remarked_upon(bench: Any) -> None:
    fleet(bench, 1)
    bench.series = [replace(one, labels={**one.labels, "pod": ""}) for one in bench.series]
    seen = bench.observe()
    assert "name no pod" in seen.notes[0]
    assert reasons(seen.servers[0]) == {HoldReason.INERT}


def test_a_source_that_does_not_answer_is_asked_once_and_nothing_is_raised(bench: Any) -> None:
    fleet(bench, 2)
    bench.faults["vllm"] = MetricsUnavailableError("connection refused")
    seen = bench.observe()
    assert len(bench.asked) == 1
    assert seen.metrics_problem == "connection refused"
    (hold,) = seen.servers[0].holds
    assert (hold.reason, hold.forbids) == (HoldReason.SIGNAL_MISSING, Forbids.CHANGE)
    assert "connection refused" in hold.detail


def test_one_query_that_fails_leaves_the_other_signals(bench: Any) -> None:
    fleet(bench, 2)
    bench.faults["time_to_first_token"] = MetricsError("the answer is partial: store down")
    server = bench.server()
    assert value(server.signals.arrival_rate_rps) == pytest.approx(4.0)
    assert server.signals.ttft_ms == Missing("the answer is partial: store down")
    assert reasons(server) == {HoldReason.SIGNAL_MISSING}


def test_an_empty_answer_is_no_load_of_zero(bench: Any) -> None:
    fleet(bench, 2)
    bench.series.clear()
    server = bench.server()
    assert isinstance(server.signals.arrival_rate_rps, Missing)
    assert "none of its 2 pods has a series" in server.signals.arrival_rate_rps.reason


def test_a_slow_source_leaves_half_of_the_cycle_to_the_others(bench: Any) -> None:
    fleet(bench, 1)
    bench.answer_takes_s = 8.0
    bench.options = CollectorOptions(metrics_timeout_s=100.0, query_timeout_s=10.0)
    server = bench.server()
    assert bench.clock.now() <= 22.5
    assert bench.timeouts[:2] == [10.0, 10.0]
    assert HoldReason.SIGNAL_MISSING in reasons(server)


def test_an_unreadable_cluster_ends_the_look(bench: Any, monkeypatch: Any) -> None:
    def refuse() -> None:
        raise UnavailableError("no API server")

    monkeypatch.setattr(bench, "workloads_of_cluster", refuse)
    with pytest.raises(UnavailableError):
        bench.observe()


def test_without_time_nothing_is_asked(bench: Any) -> None:
    bench.observe()
    with pytest.raises(DeadlineError):
        bench.sensor.observe(NOW, Deadline(ManualClock(), 0.0))


def test_servers_stand_in_order_of_name_and_a_name_claimed_twice_holds_both(bench: Any) -> None:
    for name, server in (("a", "zeta"), ("b", "eta"), ("c", "zeta")):
        pods = bench.pods(name, 1)
        bench.workload(name, *pods, server=server)
        bench.engine(pods[0].name)
    seen = bench.observe()
    assert [one.name for one in seen.servers] == ["eta", "zeta", "zeta"]
    assert seen.servers[0].holds == ()
    for one in seen.servers[1:]:
        (hold,) = one.holds
        assert (hold.reason, hold.forbids) == (HoldReason.DUPLICATE_NAME, Forbids.CHANGE)
        assert "prod/a" in hold.detail
        assert "prod/c" in hold.detail


def test_a_server_without_pods_has_no_load_to_show(bench: Any) -> None:
    bench.workload("llm")
    server = bench.server()
    assert server.signals.arrival_rate_rps == Missing("no pods")
    assert reasons(server) == {HoldReason.SIGNAL_MISSING}


def test_an_unknown_dialect_is_refused_with_the_known_ones(bench: Any) -> None:
    bench.options = CollectorOptions(dialects=("vlm",))
    with pytest.raises(UnknownPluginError, match="'vlm'; known: vllm"):
        bench.observe()


class _Static:
    """A cluster whose only server says its load by labels."""

    def __init__(self, load: Load | None) -> None:
        ref = WorkloadRef("prod", "llm")
        self._workload = Workload(ref, "llm", "m", "Free", "A100", 8, 2, static_load=load)

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        return (self._workload,)


def labelled(load: Load | None) -> Any:
    sensor = FleetSensor(_Static(load), None)  # type: ignore[arg-type]
    return sensor.observe(NOW, Deadline(ManualClock(), 45.0)).servers[0]


def test_without_a_metric_source_the_labels_are_the_load() -> None:
    server = labelled(Load(1.5, 100.0, 50.0))
    assert server.signals.arrival_rate_rps == Present(1.5)
    assert server.signals.output_tokens == Present(50.0)
    assert server.holds == ()


def test_without_a_metric_source_and_labels_nothing_is_known() -> None:
    (hold,) = labelled(None).holds
    assert (hold.reason, hold.forbids) == (HoldReason.SIGNAL_MISSING, Forbids.CHANGE)


def test_labelled_arrivals_without_output_tokens_are_not_no_load() -> None:
    (hold,) = labelled(Load(1.5, 100.0, 0.0)).holds
    assert (hold.reason, hold.forbids) == (HoldReason.TOKENS_UNKNOWN, Forbids.CHANGE)
    assert labelled(Load(0.0, 0.0, 0.0)).holds == ()


def test_labels_never_stand_in_for_a_metric_source_that_fails(bench: Any) -> None:
    bench.workload("llm", *bench.pods("llm", 1), static_load=Load(0.1, 1.0, 1.0))
    bench.faults["vllm"] = MetricsUnavailableError("down")
    assert isinstance(bench.server().signals.arrival_rate_rps, Missing)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CapacityOptions(), None),
        (CapacityOptions(source=CapacitySource.NODES), {"A100": 8}),
        (CapacityOptions(source=CapacitySource.ELASTIC, maximum={"H100": 40}), {"H100": 40}),
    ],
)
def test_cards_come_from_the_files_the_nodes_or_a_maximum(
    bench: Any, options: CapacityOptions, expected: dict[str, int] | None
) -> None:
    bench.capacity = options
    assert bench.observe().capacity == expected


def test_a_maximum_beside_nodes_makes_its_type_elastic(bench: Any) -> None:
    bench.cards = {"A100": 8, "L4": 4}
    bench.nodes = (NodeCards("n1", "A100", 8), NodeCards("n2", "L4", 1))
    bench.capacity = CapacityOptions(source=CapacitySource.NODES, maximum={"L4": 64})
    seen = bench.observe()
    assert (seen.capacity, seen.elastic) == ({"A100": 8, "L4": 64}, ("L4",))
    assert seen.nodes == (NodeCards("n1", "A100", 8),)
