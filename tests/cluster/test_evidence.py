"""What is not known never shrinks a server, on real components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from testbed.daemon import Daemon, holds_of, server_of
from testbed.emulator import Emulator, dead, frozen, in_service, not_a_number, without_series
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.replica import Load
from testbed.waiting import until

QUIET = Load(rate_rps=4.0)
CHAT = ManagedServer("chat", replicas=3)
NewDaemon = Callable[..., Daemon]


@pytest.fixture
def idle(fleet: Fleet, emulator: Emulator, prometheus: Prometheus, new_daemon: NewDaemon) -> Daemon:
    """Three replicas where one would do; the daemon is about to find that out."""
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(CHAT)
    emulator.set_load("chat", QUIET)
    fleet.await_ready("chat", 3)
    until(
        lambda: (
            prometheus.value("count(count_over_time(vllm:num_requests_running[10s]) >= 10)") == 3
        ),
        "ten seconds of samples of three pods",
    )
    return new_daemon(settings={"stability": {"down_window_s": 0.0}})


def first_decision(daemon: Daemon) -> dict[str, object]:
    daemon.start()
    (report,) = daemon.await_reports(1)
    return report


def test_with_everything_known_it_shrinks_at_once(idle: Daemon, fleet: Fleet) -> None:
    first_decision(idle)
    until(lambda: fleet.replicas("chat") == 1, "one replica")


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (without_series, {"pod-not-reporting"}),
        (dead, {"pod-not-reporting"}),
        (not_a_number, {"pod-not-reporting"}),
    ],
    ids=["no series", "dead", "NaN"],
)
def test_one_pod_that_does_not_report_holds_a_decrease_back(
    idle: Daemon,
    fleet: Fleet,
    emulator: Emulator,
    prometheus: Prometheus,
    fault: Callable[[str], str | None],
    reasons: set[str],
) -> None:
    pod = fleet.ready_pods("chat")[0]
    emulator.set_fault(pod, fault)
    reading = f'max_over_time(vllm:num_requests_running{{pod="{pod}"}}[3s])'
    until(
        lambda: (value := prometheus.value(reading)) is None or value != value,  # noqa: PLR0124 - NaN
        "the pod's silence",
    )
    report = first_decision(idle)
    assert holds_of(report, "chat") & (reasons | {"signal-missing", "signal-stale"})
    idle.await_reports(2)
    assert fleet.replicas("chat") == 3


def test_all_pods_frozen_or_silent_change_nothing(
    idle: Daemon, fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    for pod in fleet.ready_pods("chat"):
        emulator.set_fault(pod, dead)
    until(lambda: prometheus.value("count(vllm:num_requests_running)") is None, "silence", 30.0)
    report = first_decision(idle)
    assert server_of(report, "chat")["action"] == "hold"
    idle.await_reports(2)
    assert fleet.replicas("chat") == 3


def test_a_restart_by_another_controller_holds_a_decrease_back(
    idle: Daemon, fleet: Fleet, emulator: Emulator
) -> None:
    pod = fleet.ready_pods("chat")[0]
    fleet.restart_container(pod)
    emulator.restart(pod)
    report = first_decision(idle)
    assert "pod-restarted" in holds_of(report, "chat")
    assert fleet.replicas("chat") == 3


def test_a_pod_deleted_by_another_holds_a_decrease_back(
    idle: Daemon, fleet: Fleet, emulator: Emulator
) -> None:
    idle.start()
    fleet.core.delete_namespaced_pod(fleet.ready_pods("chat")[0], fleet.namespace)
    idle.await_report(
        lambda report: bool(holds_of(report, "chat") & {"pod-gone", "pod-not-reporting"}),
        "the pod's absence",
    )


def test_a_server_whose_pods_are_all_gone_does_not_shrink(
    idle: Daemon, fleet: Fleet, emulator: Emulator
) -> None:
    emulator.set_load("chat", replace(QUIET, rate_rps=50.0))
    for node in fleet.core.list_node().items:
        fleet.core.patch_node(node.metadata.name, {"spec": {"unschedulable": True}})
    fleet.core.delete_collection_namespaced_pod(fleet.namespace)
    until(lambda: fleet.ready_pods("chat") == [], "no pod is left")
    report = first_decision(idle)
    assert server_of(report, "chat")["action"] == "hold"
    idle.await_reports(2)
    assert fleet.replicas("chat") == 3


def test_arrivals_without_token_lengths_do_not_shrink(
    idle: Daemon, fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    hidden = ("vllm:request_prompt_tokens", "vllm:request_generation_tokens")
    for pod in fleet.ready_pods("chat"):
        emulator.set_fault(
            pod,
            lambda page: "".join(
                line
                for line in page.splitlines(keepends=True)
                if not any(name in line for name in hidden)
            ),
        )
    until(lambda: prometheus.value("count(vllm:request_prompt_tokens_sum)") is None, "no lengths")
    report = first_decision(idle)
    assert holds_of(report, "chat") & {"tokens-unknown", "signal-stale", "signal-missing"}
    idle.await_reports(2)
    assert fleet.replicas("chat") == 3


def test_an_engine_that_hangs_does_not_read_as_no_load(
    idle: Daemon, fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    for pod in fleet.ready_pods("chat"):
        emulator.set_fault(pod, frozen(in_service))
    until(
        lambda: (
            prometheus.value("sum(increase(vllm:request_success_total[10s]))") == 0
            and (prometheus.value("sum(vllm:num_requests_running)") or 0) > 0
        ),
        "counters that stand still with requests in service",
    )
    report = first_decision(idle)
    assert server_of(report, "chat")["action"] == "hold"
    idle.await_reports(2)
    assert fleet.replicas("chat") == 3
