from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import (
    Observation,
    Pod,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present, Stale
from controlloop.tuner.measurement import Measurement, Rejection
from controlloop.tuner.sampling import Sampler

WINDOW_S = 60.0
SIGNALS = Signals(
    arrival_rate_rps=Present(4.0),
    completion_rate_rps=Present(4.0),
    input_tokens=Present(500.0),
    output_tokens=Present(200.0),
    ttft_ms=Present(80.0),
    itl_ms=Present(20.0),
    running=Present(16.0),
    waiting=Present(0.0),
    reported_pods=2,
    expected_pods=2,
)
WORKLOAD = Workload(
    WorkloadRef("ns", "s"), "s", "m", "c", "a", max_batch=32, replicas=2, ready_replicas=2
)


def server(signals: dict[str, Any] | None = None, **workload: Any) -> ServerObservation:
    return ServerObservation(replace(WORKLOAD, **workload), replace(SIGNALS, **(signals or {})))


def seen(sampler: Sampler, now: float, one: ServerObservation) -> Measurement | Rejection:
    (sample,) = sampler.sample(now, Observation(now, (one,)))
    assert sample.pair == (one.workload.model, one.workload.accelerator)
    return sample.found


def test_a_measurement_is_of_one_replica_and_rests_on_the_requests_of_all() -> None:
    found = seen(Sampler(WINDOW_S), 600.0, server())
    assert found == Measurement(
        time=600.0,
        rate_rps=2.0,
        input_tokens=500.0,
        output_tokens=200.0,
        max_batch=32,
        itl_ms=20.0,
        ttft_ms=80.0,
        requests=240.0,
        throughput_rps=2.0,
        source="s",
    )


def test_windows_that_overlap_count_only_their_new_requests() -> None:
    sampler = Sampler(WINDOW_S)
    seen(sampler, 600.0, server())
    found = seen(sampler, 615.0, server())
    assert isinstance(found, Measurement)
    assert found.requests == pytest.approx(60.0)


NAMES = [
    "arrival_rate_rps",
    "completion_rate_rps",
    "input_tokens",
    "output_tokens",
    "ttft_ms",
    "itl_ms",
    "running",
    "waiting",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_that_is_missing_or_stale_teaches_nothing(name: str) -> None:
    assert seen(Sampler(WINDOW_S), 0.0, server({name: Missing("gone")})) is Rejection.MISSING
    assert seen(Sampler(WINDOW_S), 0.0, server({name: Stale(1.0, 90.0)})) is Rejection.STALE


def test_a_server_without_requests_is_idle() -> None:
    nothing = {"arrival_rate_rps": Present(0.0), "completion_rate_rps": Present(0.0)}
    unknown = {"ttft_ms": Missing("no traffic"), "itl_ms": Missing("no traffic")}
    assert seen(Sampler(WINDOW_S), 0.0, server(nothing | unknown)) is Rejection.IDLE


def test_a_server_whose_batch_is_not_known_teaches_nothing() -> None:
    assert seen(Sampler(WINDOW_S), 0.0, server(max_batch=0)) is Rejection.BATCH_UNKNOWN


@pytest.mark.parametrize(
    "reason",
    [
        HoldReason.ROLLOUT,
        HoldReason.POD_GONE,
        HoldReason.POD_RESTARTED,
        HoldReason.POD_NOT_REPORTING,
        HoldReason.INERT,
    ],
)
def test_what_is_measured_during_a_change_counts_for_nothing(reason: HoldReason) -> None:
    held = replace(server(), holds=(Hold(reason, Forbids.DECREASE, ""),))
    assert seen(Sampler(WINDOW_S), 600.0, held) is Rejection.CHANGING


def test_a_hold_that_says_nothing_of_the_signals_does_not_matter() -> None:
    held = replace(server(), holds=(Hold(HoldReason.PAUSED, Forbids.CHANGE, ""),))
    assert isinstance(seen(Sampler(WINDOW_S), 600.0, held), Measurement)


@pytest.mark.parametrize(
    "pod",
    [
        Pod("p", ready_since=570.0),
        Pod("p", terminating=True),
    ],
)
def test_pods_that_come_or_go_count_for_nothing(pod: Pod) -> None:
    assert seen(Sampler(WINDOW_S), 600.0, server(pods=(pod,))) is Rejection.CHANGING


def test_pods_that_do_not_report_count_for_nothing() -> None:
    assert seen(Sampler(WINDOW_S), 0.0, server({"reported_pods": 1})) is Rejection.CHANGING


@pytest.mark.parametrize("change", [{"max_batch": 64}, {"accelerator": "b"}])
def test_another_batch_or_accelerator_counts_a_window_later(change: dict[str, Any]) -> None:
    sampler = Sampler(WINDOW_S)
    assert isinstance(seen(sampler, 600.0, server()), Measurement)
    assert seen(sampler, 630.0, server(**change)) is Rejection.CHANGING
    assert seen(sampler, 660.0, server(**change)) is Rejection.CHANGING
    assert isinstance(seen(sampler, 690.0, server(**change)), Measurement)


def test_a_queue_is_told_with_what_runs() -> None:
    queue = {"waiting": Present(100.0), "running": Present(50.0), "arrival_rate_rps": Present(9.0)}
    sampler = Sampler(WINDOW_S)
    # What was measured while the batch filled up is of no batch.
    assert seen(sampler, 600.0, server(queue)) is Rejection.CHANGING
    found = seen(sampler, 660.0, server(queue))
    assert isinstance(found, Measurement)
    assert found.queued
    assert (found.running, found.in_service) == (25.0, 25)


def test_while_a_queue_keeps_all_full_pods_may_come_and_go() -> None:
    queue = {"waiting": Present(100.0), "running": Present(62.0)}
    sampler = Sampler(WINDOW_S)
    seen(sampler, 600.0, server(queue))
    young = (Pod("p", ready_since=640.0),)
    found = seen(sampler, 660.0, server(queue, pods=young))
    assert isinstance(found, Measurement)
    assert (found.ttft_ms, found.throughput_rps, found.in_service) == (None, None, 32)
    # Pods that have just come are not full yet.
    filling = server(queue | {"running": Present(50.0)}, pods=young)
    assert seen(sampler, 680.0, filling) is Rejection.CHANGING


def test_after_a_queue_has_drained_ttft_tells_of_the_past() -> None:
    sampler = Sampler(WINDOW_S)
    seen(sampler, 600.0, server({"waiting": Present(100.0)}))
    assert seen(sampler, 630.0, server()) is Rejection.CHANGING
    old = {"ttft_ms": Present(90_000.0)}
    assert seen(sampler, 660.0, server(old)) is Rejection.CHANGING
    assert isinstance(seen(sampler, 690.0, server()), Measurement)


def test_a_load_that_changes_faster_than_it_settles_counts_for_nothing() -> None:
    found = seen(Sampler(WINDOW_S), 0.0, server({"arrival_rate_rps": Present(5.0)}))
    assert found is Rejection.CHANGING
    # Twelve requests more inside than before is chance, with sixteen in service.
    found = seen(Sampler(WINDOW_S), 0.0, server({"arrival_rate_rps": Present(4.2)}))
    assert isinstance(found, Measurement)


def test_a_server_with_siblings_tells_nothing_of_any_single_accelerator() -> None:
    sibling = replace(WORKLOAD, accelerator="b")
    mixed = replace(server(), siblings=(sibling,))
    assert seen(Sampler(WINDOW_S), 600.0, mixed) is Rejection.MIXED
