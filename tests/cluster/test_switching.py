"""Switches on the real control plane: new pods serve before old ones go, or nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from testbed.control_plane import ADMIN
from testbed.fleet import Fleet
from testbed.objects import GPU, PRODUCT_LABEL, GpuNode, ManagedServer
from testbed.waiting import until

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.switching import SwitchOptions
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.decision import Action, Decision, Decisions, Plan
from controlloop.api.observation import Observation, ServerObservation, Workload
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation
from controlloop.errors import ConflictError
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import ConnectionOptions, connect

SAMPLE_S = 0.5
CHAT = ManagedServer("chat", replicas=8, ready_after="2s")
TEMPLATES = {
    name: AcceleratorTemplate(
        node_selector={PRODUCT_LABEL: name}, limits={GPU: cards}, arguments={"tp": cards}
    )
    for name, cards in (("A100", "1"), ("H100", "2"))
}
SOLUTION = Solution({}, (), SolveStatus.OPTIMAL, "unlimited", 0.0)
TO_H100 = Allocation("H100", 2, 64)


@dataclass
class Loop:
    """Plans and sends as the actuator does; the decision is the test's."""

    cluster: KubeCluster
    options: SwitchOptions
    now: float = 1000.0

    def workload(self) -> Workload:
        (found,) = self.cluster.workloads(10.0)
        return found

    def step(self, desired: Allocation, surge: int) -> Plan:
        workload = self.workload()
        current = Allocation(workload.accelerator, workload.replicas, workload.max_batch)
        decision = Decision("chat", Action.SWITCH, current, desired, "test", surge=surge)
        seen = Observation(self.now, (ServerObservation(workload),))
        means = Means(TEMPLATES, self.options, self.now)
        planned = plan(Decisions((decision,), SOLUTION), seen, means)
        try:
            for patch in planned.patches:
                self.cluster.patch(patch, 10.0, dry_run=False)
        except ConflictError:
            # Its status changed meanwhile: planned anew, as in the next cycle.
            return self.step(desired, surge)
        return planned


@pytest.fixture
def loop(fleet: Fleet) -> Loop:
    kubeconfig = str(fleet.control_plane.kubeconfig(ADMIN))
    connection = connect(ConnectionOptions(kubeconfig=kubeconfig))
    cluster = KubeCluster(connection, ClusterOptions(namespaces=(fleet.namespace,)))
    return Loop(cluster, SwitchOptions(startup_s=30.0, startup_factor=1.0, backoff_s=100.0))


@pytest.fixture
def ready(fleet: Fleet) -> Fleet:
    """Eight replicas on A100; H100 for two."""
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_nodes(GpuNode(product="H100", gpus=4))
    fleet.add_servers(CHAT)
    fleet.await_ready("chat", 8)
    return fleet


def spec_of(fleet: Fleet) -> Mapping[str, Any]:
    found: Mapping[str, Any] = fleet.api.sanitize_for_serialization(fleet.deployment("chat"))
    return found


def serving(fleet: Fleet) -> float:
    """The load's need that ready pods cover: 1 is all. Eight A100 or two H100 are enough."""
    pods = fleet.core.list_namespaced_pod(fleet.namespace).items
    share = 0.0
    for pod in pods:
        conditions = pod.status.conditions or ()
        if any(each.type == "Ready" and each.status == "True" for each in conditions):
            share += {"A100": 1 / 8, "H100": 1 / 2}[pod.spec.node_selector[PRODUCT_LABEL]]
    return share


@contextmanager
def sampled(fleet: Fleet) -> Iterator[Callable[[], float]]:
    """Samples what serves twice a second; gives the least so far."""
    shares: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        while True:
            shares.append(serving(fleet))
            if stop.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: min(shares)
    finally:
        stop.set()
        thread.join()


def test_eight_replicas_become_two_of_another_and_no_load_is_left_unserved(
    ready: Fleet, loop: Loop
) -> None:
    before = spec_of(ready)["spec"]
    with sampled(ready) as least:
        (begun,) = loop.step(TO_H100, surge=2).patches
        assert begun.replicas == 8

        def done() -> bool:
            planned = loop.step(TO_H100, surge=2)
            steps = [each.change.step for each in planned.patches if each.change]
            return "end" in steps

        until(done, "the end of the switch", timeout_s=60.0)
        ready.await_ready("chat", 2)
        assert least() >= 1.0
    after = spec_of(ready)
    container = after["spec"]["template"]["spec"]["containers"][0]
    assert after["spec"]["replicas"] == 2
    assert after["spec"]["strategy"] == before["strategy"]
    assert after["spec"].get("minReadySeconds", 0) == 0
    assert container["args"] == ["--model=llama-8b", "--tp=2", "--max-num-seqs=64"]
    assert container["resources"]["limits"] == {GPU: "2"}
    labels = after["metadata"]["labels"]
    assert labels["inferno.server.allocation.accelerator"] == "H100"
    assert labels["inferno.server.allocation.maxbatchsize"] == "64"
    assert loop.workload().holds == ()


def test_pods_that_never_become_ready_are_taken_back_and_tried_again_later(
    ready: Fleet, loop: Loop
) -> None:
    before = spec_of(ready)["spec"]["template"]
    uids = {pod.uid for pod in loop.workload().pods}
    # The H100 nodes are full of somebody else's pods: the new ones are never placed.
    stranger = ManagedServer("stranger", managed=False, emulated=False, product="H100", gpus=4)
    ready.add_servers(stranger)
    ready.await_ready("stranger", 1)
    with sampled(ready) as least:
        loop.step(TO_H100, surge=2)
        until(lambda: len(loop.workload().pods) == 10, "two new pods beside the old ones")
        assert loop.step(TO_H100, surge=2).patches == ()
        loop.now += 31.0
        (undo,) = loop.step(TO_H100, surge=2).patches
        assert (undo.change and undo.change.step, undo.replicas) == ("undo", 8)
        until(
            lambda: any(
                each.change and each.change.step == "undone"
                for each in loop.step(TO_H100, surge=2).patches
            ),
            "the old template to be alone again",
            timeout_s=30.0,
        )
        until(lambda: len(loop.workload().pods) == 8, "the old pods alone")
        assert least() >= 1.0
    assert spec_of(ready)["spec"]["template"] == before
    assert {pod.uid for pod in loop.workload().pods} == uids
    until(lambda: not loop.workload().holds, "a settled Deployment")
    (refusal,) = loop.step(TO_H100, surge=2).refusals
    assert "did not become ready" in refusal.reason
    loop.now += 101.0
    assert [each.change and each.change.step for each in loop.step(TO_H100, 2).patches] == ["begin"]


def test_a_paused_deployment_is_not_touched(ready: Fleet, loop: Loop) -> None:
    ready.patch("chat", {"spec": {"paused": True}})
    planned = loop.step(TO_H100, surge=2)
    assert planned.patches == ()
    assert "rollout-in-progress" in planned.refusals[0].reason


def test_two_become_eight_of_another_in_the_same_way(fleet: Fleet, loop: Loop) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_nodes(GpuNode(product="H100", gpus=4))
    there = ManagedServer(
        "chat", accelerator="H100", product="H100", gpus=2, replicas=2, ready_after="2s"
    )
    fleet.add_servers(there)
    fleet.await_ready("chat", 2)
    wanted = Allocation("A100", 8, 32)
    with sampled(fleet) as least:
        loop.step(wanted, surge=8)

        def done() -> bool:
            planned = loop.step(wanted, surge=8)
            return any(each.change and each.change.step == "end" for each in planned.patches)

        until(done, "the end of the switch", timeout_s=60.0)
        assert least() >= 1.0
    assert loop.workload().replicas == 8
