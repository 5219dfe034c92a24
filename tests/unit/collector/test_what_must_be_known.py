"""Each thing that must be known before anything shrinks, through the real stages of a cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.decision import Action
from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.observation import Pod
from controlloop.collector.options import CollectorOptions, GatewayOptions
from controlloop.collector.series import MetricsUnavailableError
from controlloop.errors import MetricsError

NOW = 1_000_000.0
LITTLE_RPS = 0.05
MUCH_RPS = 40.0
COUNT = 4
"""Pods: far too many for the little, far too few for the much."""


def chosen(samples: tuple[float, ...]) -> tuple[float, ...]:
    """The first sample and the last two."""
    return samples[0], samples[10], samples[11]


def later(times: tuple[float, ...], by_s: float) -> tuple[float, ...]:
    return tuple(time + by_s for time in times)


def build(bench: Any, rate_rps: float, **engine: Any) -> tuple[Pod, ...]:
    pods: tuple[Pod, ...] = bench.pods("llm", COUNT)
    bench.workload("llm", *pods)
    for pod in pods:
        bench.engine(pod.name, rate_rps, running=0.0, **engine)
    return pods


def a_signal_missing(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.drop("vllm:inter_token_latency")


def a_signal_stale(bench: Any, pods: tuple[Pod, ...]) -> None:
    for name in ("sum", "count"):
        metric = f"vllm:inter_token_latency_seconds_{name}"
        old = [one for one in bench.series if one.name == metric]
        bench.drop(metric)
        bench.series += [replace(one, times=one.times[:2], values=one.values[:2]) for one in old]


def a_partial_answer(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.faults["time_to_first_token"] = MetricsError("the answer is partial: a store is down")


def a_pod_gone(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.observe()
    bench.drop("vllm:", pods[0].name)
    bench.workload("llm", *pods[1:], replicas=COUNT)


def a_pod_gone_as_its_series_show(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.workload("llm", *pods[1:], replicas=COUNT)


def a_pod_no_longer_ready(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.observe()
    bench.drop("vllm:", pods[0].name)
    bench.workload("llm", replace(pods[0], ready=False, ready_since=None), *pods[1:])


def a_counter_reset(bench: Any, pods: tuple[Pod, ...]) -> None:
    def reset(time: float) -> float:
        return 5000.0 if time < NOW - 20 else 0.0

    bench.show(pods[0].name, "vllm:request_success_total", reset, finished_reason="abort")


def a_restart_as_the_cluster_dates_it(bench: Any, pods: tuple[Pod, ...]) -> None:
    restarted = replace(pods[0], restarts=1, restarted_at=NOW - 30)
    bench.workload("llm", restarted, *pods[1:])


def a_restart_as_the_cluster_counts_it(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.observe()
    bench.workload("llm", replace(pods[0], restarts=1), *pods[1:])


def a_pod_without_series(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.drop("vllm:", pods[0].name)


def a_pod_that_shows_no_numbers(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.change("vllm:num_requests_running", float("nan"), pods[0].name)


def a_pod_with_old_samples(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.series = [
        replace(one, times=one.times[:2], values=one.values[:2])
        if one.label("pod") == pods[0].name
        else one
        for one in bench.series
    ]


def a_pod_that_was_silent_for_a_while(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.series = [
        replace(one, times=chosen(one.times), values=chosen(one.values))
        if one.label("pod") == pods[0].name
        else one
        for one in bench.series
    ]


def a_pod_whose_page_is_frozen(bench: Any, pods: tuple[Pod, ...]) -> None:
    for one in {one.name for one in bench.series}:
        bench.change(one, 3.0 if one == "vllm:num_requests_running" else 7.0, pods[0].name)
    bench.change("vllm:num_requests_waiting", 0.0, pods[0].name)


def a_request_waiting(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.change("vllm:num_requests_waiting", 1.0, pods[0].name)


def requests_that_left_uncounted(bench: Any, pods: tuple[Pod, ...]) -> None:
    def aborted(time: float) -> float:
        return 2000.0 if time < NOW - 20 else 0.0

    bench.change("vllm:num_requests_waiting", aborted, pods[0].name)


def no_request_of_known_length(bench: Any, pods: tuple[Pod, ...]) -> None:
    for name in ("vllm:request_prompt_tokens", "vllm:request_generation_tokens"):
        bench.change(f"{name}_count", 1000.0)
        bench.change(f"{name}_sum", 50000.0)


def a_gateway_that_says_nothing(bench: Any, pods: tuple[Pod, ...]) -> None:
    gateway = GatewayOptions(selector="gateway_requests_total", server_label="server")
    bench.options = CollectorOptions(gateway=gateway)


CONDITIONS: dict[Callable[[Any, tuple[Pod, ...]], None], HoldReason] = {
    a_signal_missing: HoldReason.SIGNAL_MISSING,
    a_signal_stale: HoldReason.SIGNAL_STALE,
    a_partial_answer: HoldReason.SIGNAL_MISSING,
    a_pod_gone: HoldReason.POD_GONE,
    a_pod_gone_as_its_series_show: HoldReason.POD_GONE,
    a_pod_no_longer_ready: HoldReason.POD_GONE,
    a_counter_reset: HoldReason.POD_RESTARTED,
    a_restart_as_the_cluster_dates_it: HoldReason.POD_RESTARTED,
    a_restart_as_the_cluster_counts_it: HoldReason.POD_RESTARTED,
    a_pod_without_series: HoldReason.POD_NOT_REPORTING,
    a_pod_that_shows_no_numbers: HoldReason.POD_NOT_REPORTING,
    a_pod_with_old_samples: HoldReason.POD_NOT_REPORTING,
    a_pod_that_was_silent_for_a_while: HoldReason.POD_NOT_REPORTING,
    a_pod_whose_page_is_frozen: HoldReason.POD_NOT_REPORTING,
    a_request_waiting: HoldReason.REQUESTS_WAITING,
    requests_that_left_uncounted: HoldReason.REQUESTS_WAITING,
    no_request_of_known_length: HoldReason.TOKENS_UNKNOWN,
    a_gateway_that_says_nothing: HoldReason.SIGNAL_MISSING,
}
IDS = [condition.__name__ for condition in CONDITIONS]


def test_with_everything_known_a_server_shrinks_and_grows(bench: Any) -> None:
    build(bench, LITTLE_RPS)
    assert bench.decide(bench.observe())["llm"].action is Action.SCALE_DOWN
    bench.series.clear()
    build(bench, MUCH_RPS)
    assert bench.decide(bench.observe())["llm"].action is Action.SCALE_UP


@pytest.mark.parametrize(("condition", "reason"), CONDITIONS.items(), ids=IDS)
def test_it_holds_a_decrease_back(
    bench: Any, condition: Callable[[Any, tuple[Pod, ...]], None], reason: HoldReason
) -> None:
    condition(bench, build(bench, LITTLE_RPS))
    seen = bench.observe()
    holds = {hold.reason: hold.forbids for hold in seen.servers[0].holds}
    assert holds == {reason: Forbids.DECREASE}
    decision = bench.decide(seen)["llm"]
    assert decision.desired.replicas == COUNT
    assert reason in {hold.reason for hold in decision.holds}


@pytest.mark.parametrize(("condition", "reason"), CONDITIONS.items(), ids=IDS)
def test_it_lets_an_increase_through(
    bench: Any, condition: Callable[[Any, tuple[Pod, ...]], None], reason: HoldReason
) -> None:
    condition(bench, build(bench, MUCH_RPS))
    seen = bench.observe()
    assert reason in {hold.reason for hold in seen.servers[0].holds}
    assert bench.decide(seen)["llm"].action is Action.SCALE_UP


def no_answer(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.faults["vllm"] = MetricsUnavailableError("connection refused")


def no_series_at_all(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.series.clear()


def nothing_fresh(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.now += 50


def arrivals_of_unknown_length(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.drop("vllm:request_generation_tokens")


def requests_without_output(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.change("vllm:request_generation_tokens_sum", 0.0)


def all_pods_gone(bench: Any, pods: tuple[Pod, ...]) -> None:
    bench.observe()
    bench.workload("llm", replicas=COUNT)


@pytest.mark.parametrize("rate_rps", [LITTLE_RPS, MUCH_RPS])
@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (no_answer, HoldReason.SIGNAL_MISSING),
        (no_series_at_all, HoldReason.INERT),
        (nothing_fresh, HoldReason.SIGNAL_STALE),
        (arrivals_of_unknown_length, HoldReason.TOKENS_UNKNOWN),
        (requests_without_output, HoldReason.TOKENS_UNKNOWN),
        (all_pods_gone, HoldReason.SIGNAL_MISSING),
    ],
)
def test_a_server_whose_load_is_not_known_stays_as_it_is(
    bench: Any,
    condition: Callable[[Any, tuple[Pod, ...]], None],
    reason: HoldReason,
    rate_rps: float,
) -> None:
    condition(bench, build(bench, rate_rps))
    seen = bench.observe()
    assert (reason, Forbids.CHANGE) in {
        (hold.reason, hold.forbids) for hold in seen.servers[0].holds
    }
    decision = bench.decide(seen)["llm"]
    assert decision.action is Action.HOLD
    assert decision.desired.replicas == COUNT


def test_what_happened_within_the_window_is_forgotten_a_window_later(bench: Any) -> None:
    pods = build(bench, LITTLE_RPS)
    bench.observe()
    bench.drop("vllm:", pods[0].name)
    bench.workload("llm", replace(pods[1], restarts=1), *pods[2:])
    bench.now += 1
    both = {HoldReason.POD_GONE, HoldReason.POD_RESTARTED}
    assert {hold.reason for hold in bench.server().holds} == both
    bench.now += 61
    bench.series = [replace(one, times=later(one.times, 60)) for one in bench.series]
    assert bench.server().holds == ()


def test_a_pod_that_went_long_ago_between_two_far_cycles_is_still_noticed_once(bench: Any) -> None:
    pods = build(bench, LITTLE_RPS)
    bench.observe()
    bench.now += 600
    bench.series = [replace(one, times=later(one.times, 600)) for one in bench.series]
    bench.drop("vllm:", pods[0].name)
    bench.workload("llm", *pods[1:])
    assert {hold.reason for hold in bench.server().holds} == {HoldReason.POD_GONE}


def test_a_young_pod_has_no_silent_past(bench: Any) -> None:
    pods = build(bench, LITTLE_RPS)
    young = replace(pods[0], ready_since=NOW - 15)
    bench.workload("llm", young, *pods[1:])
    bench.series = [
        replace(one, times=one.times[-3:], values=one.values[-3:])
        if one.label("pod") == young.name
        else one
        for one in bench.series
    ]
    assert bench.server().holds == ()
