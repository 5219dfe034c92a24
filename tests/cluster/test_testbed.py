"""The testbed does what it says: real placement, real permissions, real metrics, real faults."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from testbed.control_plane import ControlPlane
from testbed.emulator import Emulator, dead, frozen, not_a_number, without_series
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.proxy import Fault, Proxy
from testbed.replica import Load
from testbed.waiting import until

COMPLETED = 'vllm:request_success_total{finished_reason="length"}'
READ_DEPLOYMENTS = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]


def deployments_client(kubeconfig: Path) -> Any:
    return client.AppsV1Api(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]


def test_pods_are_placed_by_their_gpus_and_the_rest_stay_pending(fleet: Fleet) -> None:
    fleet.add_nodes(GpuNode(gpus=8), count=3)
    fleet.add_servers(ManagedServer("a", gpus=2, replicas=16))
    fleet.await_ready("a", 12)

    def reasons() -> list[str]:
        pending = [pod for pod in fleet.pods("a") if pod.status.phase == "Pending"]
        return [c.reason for pod in pending for c in pod.status.conditions or ()]

    until(lambda: reasons() == ["Unschedulable"] * 4, "four pods that fit nowhere")


def test_pods_keep_to_the_product_that_they_ask_for(fleet: Fleet) -> None:
    fleet.add_nodes(GpuNode(product="A100"))
    (other,) = fleet.add_nodes(GpuNode(product="H100"))
    fleet.add_servers(ManagedServer("a", product="H100", replicas=2))
    fleet.await_ready("a", 2)
    assert {pod.spec.node_name for pod in fleet.pods("a")} == {other}


def test_a_model_may_take_its_time_to_start_or_never_start(fleet: Fleet) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(
        ManagedServer("late", ready_after="2s"), ManagedServer("never", ready_after="never")
    )
    until(lambda: [p.status.phase for p in fleet.pods()] == ["Running"] * 2, "both running")
    assert fleet.ready_pods() == []
    fleet.await_ready("late", 1)
    assert fleet.ready_pods("never") == []


def test_a_deployment_scales_and_is_collected_with_its_pods(fleet: Fleet) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a", replicas=2))
    fleet.await_ready("a", 2)
    fleet.scale("a", 5)
    fleet.await_ready("a", 5)
    fleet.scale("a", 1)
    fleet.await_ready("a", 1)
    fleet.delete("a")
    until(lambda: not fleet.pods("a"), "no pod left")


def test_a_long_model_name_stands_in_an_annotation(fleet: Fleet) -> None:
    fleet.add_servers(ManagedServer("a", model="meta-llama/Llama-3.1-8B"))
    metadata = fleet.deployment("a").metadata
    assert metadata.annotations["inferno.server.model"] == "meta-llama/Llama-3.1-8B"
    assert "inferno.server.model" not in metadata.labels


def test_a_user_may_do_exactly_what_was_granted(fleet: Fleet, control_plane: ControlPlane) -> None:
    apps = deployments_client(control_plane.kubeconfig("plain"))
    with pytest.raises(ApiException, match="Forbidden"):
        apps.list_namespaced_deployment(fleet.namespace)
    fleet.grant("plain", READ_DEPLOYMENTS)
    until(lambda: fleet.kubectl("get", "deployments", user="plain") == "", "the grant is in force")
    apps.list_namespaced_deployment(fleet.namespace)
    with pytest.raises(ApiException, match="Forbidden"):
        apps.delete_namespaced_deployment("a", fleet.namespace)
    apps.api_client.close()


def test_resource_versions_tell_whether_anything_was_touched(fleet: Fleet) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a"))
    fleet.await_ready("a", 1)
    until(lambda: fleet.deployment("a").status.ready_replicas == 1, "the status has settled")
    before = fleet.resource_versions()
    assert before == fleet.resource_versions()
    fleet.patch("a", {"metadata": {"annotations": {"touched": "yes"}}})
    assert before != fleet.resource_versions()


def test_what_was_stored_outlives_a_killed_api_server(
    fleet: Fleet, control_plane: ControlPlane
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=3))
    control_plane.kill_api_server()
    with pytest.raises(requests.ConnectionError):
        control_plane.get("/api/v1/nodes")
    control_plane.start()
    assert fleet.replicas("a") == 3


def test_a_node_that_is_not_ready_is_tainted(fleet: Fleet) -> None:
    broken, _ = fleet.add_nodes(GpuNode(), count=2)
    fleet.set_node_ready(broken, ready=False)

    def taints() -> set[tuple[str, str]]:
        return {(t.key, t.effect) for t in fleet.core.read_node(broken).spec.taints or ()}

    until(lambda: ("node.kubernetes.io/not-ready", "NoSchedule") in taints(), "tainted")
    fleet.set_node_ready(broken, ready=True)
    until(lambda: not taints(), "free of taints again")


def test_counters_in_prometheus_follow_the_load(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a", replicas=2))
    pods = fleet.await_ready("a", 2)
    emulator.set_load("a", Load(rate_rps=40))
    until(lambda: len(prometheus.query(COMPLETED)) == 2, "a series for each pod")
    labels = [series for series, _ in prometheus.query(COMPLETED)]
    assert {series["pod"] for series in labels} == set(pods)
    assert {series["namespace"] for series in labels} == {fleet.namespace}
    rate = f"sum(rate({COMPLETED}[5s]))"
    until(lambda: (prometheus.value(rate) or 0) == pytest.approx(40, rel=0.1), "the rate arrives")
    until(lambda: (prometheus.value("gateway_requests_total") or 0) > 40, "the gateway counts")


def test_prometheus_follows_pods_that_come_and_go(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a", replicas=1))
    until(lambda: prometheus.value('sum(up{job="servers"})') == 1, "one pod is scraped")
    fleet.scale("a", 3)
    until(lambda: prometheus.value('sum(up{job="servers"})') == 3, "three pods are scraped")
    fleet.scale("a", 1)
    until(lambda: prometheus.value('count(up{job="servers"})') == 1, "one pod is scraped again")


def test_each_fault_of_a_pod_shows_in_prometheus(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a"))
    (pod,) = fleet.await_ready("a", 1)
    emulator.set_load("a", Load(rate_rps=50))
    until(lambda: (prometheus.value(COMPLETED) or 0) > 50, "counters move")

    emulator.set_fault(pod, frozen())
    until(lambda: prometheus.value(f"changes({COMPLETED}[3s])") == 0, "counters stand still")
    emulator.set_fault(pod, not_a_number)
    until(lambda: math.isnan(prometheus.value(COMPLETED) or 0), "values are NaN")
    emulator.set_fault(pod, without_series)
    until(lambda: prometheus.value(COMPLETED) is None, "the series are gone")
    assert prometheus.value('up{job="servers"}') == 1
    emulator.set_fault(pod, dead)
    until(lambda: prometheus.value('up{job="servers"}') == 0, "the target is down")
    emulator.set_fault(pod, None)
    until(lambda: (prometheus.value(COMPLETED) or 0) > 50, "counters are back")
    emulator.restart(pod)
    until(lambda: prometheus.value(f"resets({COMPLETED}[60s])") == 1, "counters were reset")


def test_prometheus_keeps_its_data_when_killed_and_answers_after_a_stall(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    fleet.add_nodes(GpuNode())
    fleet.add_servers(ManagedServer("a"))
    until(lambda: prometheus.value('up{job="servers"}') == 1, "the pod is scraped")
    seen_at = time.time()
    prometheus.kill()
    with pytest.raises(requests.ConnectionError):
        prometheus.query("up")
    prometheus.start()
    assert prometheus.value('up{job="servers"}', at=seen_at) == 1
    prometheus.program.stall()
    with pytest.raises(requests.Timeout):
        requests.get(f"{prometheus.url}/-/ready", timeout=0.5)
    prometheus.program.resume()
    assert requests.get(f"{prometheus.url}/-/ready", timeout=10).ok


def test_a_recording_is_loaded_as_it_was_recorded(
    new_prometheus: Callable[[], Prometheus], shared_data: Callable[[str], Path]
) -> None:
    start = 1_700_000_000.0
    prometheus = new_prometheus()
    recording = shared_data("vllm-recordings/overload.jsonl.gz")
    prometheus.load_recording(recording, {"namespace": "n", "pod": "p"}, start)
    prometheus.start()
    answer = prometheus.query("vllm:generation_tokens_total", at=start)
    labels = {"__name__": "vllm:generation_tokens_total", "namespace": "n", "pod": "p"}
    assert answer == [(labels | {"engine": "0", "model_name": "tiny"}, 5888.0)]
    count = "count_over_time(vllm:num_requests_waiting[10m])"
    assert prometheus.value(count, at=start + 560) == 112


def test_the_proxy_counts_delays_refuses_and_cuts(
    fleet: Fleet, control_plane: ControlPlane, api_proxy: Proxy
) -> None:
    apps = deployments_client(control_plane.kubeconfig("admin", api_proxy.url))
    fleet.add_servers(ManagedServer("a", replicas=0))
    path = f"/apis/apps/v1/namespaces/{fleet.namespace}/deployments/a"
    scale_up = {"spec": {"replicas": 3}}

    apps.read_namespaced_deployment("a", fleet.namespace)
    assert [request.method for request in api_proxy.requests(path)] == ["GET"]
    assert api_proxy.requests(writes=True) == []

    conflict = Fault(lambda request: request.method == "PATCH", times=1, status=409)
    with api_proxy.fault(conflict), pytest.raises(ApiException, match="409"):
        apps.patch_namespaced_deployment("a", fleet.namespace, scale_up)
    assert fleet.replicas("a") == 0

    api_proxy.forget()
    with api_proxy.fault(Fault(delay_s=0.5)):
        started = time.monotonic()
        apps.read_namespaced_deployment("a", fleet.namespace)
        assert time.monotonic() - started >= 0.5
    assert len(api_proxy.requests()) == 1

    deletes_it = Fault(lambda request: request.writes, before=lambda: fleet.delete("a"))
    with api_proxy.fault(deletes_it), pytest.raises(ApiException, match="404"):
        apps.patch_namespaced_deployment("a", fleet.namespace, scale_up)
    apps.api_client.close()


def test_an_answer_may_be_lost_after_the_write_was_done(fleet: Fleet, api_proxy: Proxy) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    path = f"/apis/apps/v1/namespaces/{fleet.namespace}/deployments/a"
    token = fleet.control_plane.token("admin")
    with api_proxy.fault(Fault(cut_after=True)), pytest.raises(requests.ConnectionError):
        requests.patch(
            api_proxy.url + path,
            json={"spec": {"replicas": 3}},
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/merge-patch+json",
            },
            timeout=10,
        )
    assert fleet.replicas("a") == 3


def test_a_watch_goes_through_the_proxy_and_can_be_cut(fleet: Fleet, api_proxy: Proxy) -> None:
    path = f"/apis/apps/v1/namespaces/{fleet.namespace}/deployments?watch=1"
    token = fleet.control_plane.token("admin")
    with requests.get(
        api_proxy.url + path,
        headers={"Authorization": f"Bearer {token}"},
        stream=True,
        timeout=10,
    ) as watch:
        lines = watch.iter_lines(chunk_size=None)
        fleet.add_servers(ManagedServer("a", replicas=0))
        assert b'"ADDED"' in next(lines)
        api_proxy.cut_connections()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(lines)


def test_queries_are_counted_before_prometheus(
    prometheus: Prometheus, prometheus_proxy: Proxy
) -> None:
    answer = requests.get(
        f"{prometheus_proxy.url}/api/v1/query", params={"query": "vector(7)"}, timeout=10
    )
    assert answer.json()["data"]["result"][0]["value"][1] == "7"
    assert len(prometheus_proxy.requests("/api/v1/query")) == 1


def test_manifests_are_applied_by_kubectl_and_refused_with_its_complaint(fleet: Fleet) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    fleet.apply({**settings, "data": {"a": "1"}})
    assert fleet.kubectl("get", "configmap/settings", "-o", "jsonpath={.data.a}") == "1"
    with pytest.raises(RuntimeError, match="forbidden"):
        fleet.apply(settings, user="plain")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_nothing_is_left_when_the_tests_are_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, time; from testbed.processes import Program;"
        f"program = Program(['/bin/sleep', '600'], pathlib.Path({str(tmp_path / 'log')!r}));"
        "program.start(); print(program.pid, flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not is_alive(child), "the child is gone")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
