from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Kinship, WorkloadRef
from controlloop.collector.options import CollectorOptions, GatewayOptions
from controlloop.collector.series import Series

NOW = 1_000_000.0


def reasons(server: Any) -> set[HoldReason]:
    return {hold.reason for hold in server.holds}


def a_family(bench: Any, *, siblings: bool = True) -> Any:
    """A server of two pods with a sibling of one, each pod at 2 requests/s."""
    bench.options = CollectorOptions(siblings=siblings)
    pods = {name: bench.pods(name, count) for name, count in (("llm", 2), ("llm-h100", 1))}
    uids = {"llm": "u1", "llm-h100": "u2"}
    for name, some in pods.items():
        for pod in some:
            bench.engine(pod.name)
        ref = WorkloadRef("prod", name, uids[name])
        bench.workload(name, *some, server="llm", ref=ref)
    sibling = bench.workloads["llm-h100"]
    kinship = Kinship("u1")
    bench.workloads["llm-h100"] = replace(sibling, accelerator="H100", kinship=kinship)
    return bench


def test_a_server_and_its_sibling_are_one_whose_load_is_that_of_all_pods(bench: Any) -> None:
    server = a_family(bench).server()
    assert server.workload.ref.name == "llm"
    assert len(server.workload.pods) == 2
    assert [each.ref.name for each in server.siblings] == ["llm-h100"]
    assert server.signals.arrival_rate_rps.value == pytest.approx(6.0)
    assert server.signals.expected_pods == 3
    assert server.all_holds == ()


def test_what_holds_a_sibling_holds_its_server_and_says_whose_it_is(bench: Any) -> None:
    a_family(bench)
    rollout = Hold(HoldReason.ROLLOUT, Forbids.DECREASE, "0 of 1 pods")
    bench.workloads["llm-h100"] = replace(bench.workloads["llm-h100"], holds=(rollout,))
    (hold,) = bench.server().all_holds
    assert (hold.reason, hold.forbids) == (HoldReason.ROLLOUT, Forbids.DECREASE)
    assert hold.detail == "Deployment prod/llm-h100: 0 of 1 pods"


def test_a_pod_of_a_sibling_that_is_gone_is_missed_by_its_server(bench: Any) -> None:
    a_family(bench).observe()
    del bench.workloads["llm-h100"]
    assert HoldReason.POD_GONE in reasons(bench.server())


@pytest.mark.parametrize(
    "change",
    [
        {"kinship": None},
        {"kinship": Kinship("another")},
        {"accelerator": "A100"},
    ],
)
def test_a_second_deployment_that_is_no_sibling_is_refused_as_ever(
    bench: Any, change: dict[str, Any]
) -> None:
    a_family(bench)
    bench.workloads["llm-h100"] = replace(bench.workloads["llm-h100"], **change)
    seen = bench.observe().servers
    assert [HoldReason.DUPLICATE_NAME in reasons(one) for one in seen] == [True, True]


def test_without_the_setting_a_sibling_is_a_second_deployment_like_any_other(bench: Any) -> None:
    seen = a_family(bench, siblings=False).observe().servers
    assert [HoldReason.DUPLICATE_NAME in reasons(one) for one in seen] == [True, True]


def test_a_sibling_whose_primary_is_not_managed_is_held(bench: Any) -> None:
    a_family(bench)
    del bench.workloads["llm"]
    (hold,) = bench.server().workload.holds
    assert (hold.reason, hold.forbids) == (HoldReason.SIBLING_ALONE, Forbids.CHANGE)


def test_what_a_gateway_counts_of_a_sibling_is_its_servers_load(bench: Any) -> None:
    a_family(bench)
    gateway = GatewayOptions(selector="gateway_requests_total", server_label="server")
    bench.options = CollectorOptions(siblings=True, gateway=gateway)
    times = tuple(NOW - 57.0 + 5.0 * i for i in range(12))
    for number, name in enumerate(("llm", "llm-h100")):
        names = {"__name__": "gateway_requests_total", "job": "g", "instance": f"g:{number}"}
        labels = {**names, "server": name, "namespace": "prod"}
        bench.series.append(Series(labels, times, tuple(3.0 * (at - NOW + 100) for at in times)))
    assert bench.server().signals.arrival_rate_rps.value == pytest.approx(6.0)


def test_of_two_siblings_on_one_accelerator_nobody_knows_which_is_meant(bench: Any) -> None:
    a_family(bench)
    other = replace(bench.workloads["llm-h100"], ref=WorkloadRef("prod", "llm-other", "u3"))
    bench.workloads["llm-other"] = other
    seen = bench.observe().servers
    assert [HoldReason.DUPLICATE_NAME in reasons(one) for one in seen] == [True, True, True]


def test_with_the_setting_off_the_refusal_names_the_sibling_and_the_setting(bench: Any) -> None:
    seen = a_family(bench, siblings=False).observe().servers
    details = [hold.detail for one in seen for hold in one.holds]
    sibling = "Deployment prod/llm-h100 (a sibling: see actuator.siblings)"
    assert len(details) == 2
    assert all("Deployment prod/llm," in each and sibling in each for each in details)


def test_a_sibling_of_a_primary_that_names_another_server_by_now_is_held(bench: Any) -> None:
    a_family(bench)
    bench.workloads["llm"] = replace(bench.workloads["llm"], server="renamed")
    seen = {one.name: one for one in bench.observe().servers}
    assert seen["renamed"].all_holds == ()
    (hold,) = seen["llm"].workload.holds
    assert (hold.reason, hold.forbids) == (HoldReason.SIBLING_ALONE, Forbids.CHANGE)
