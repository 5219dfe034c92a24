"""What was parsed once is parsed again when, and only when, something it is made of changed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from memory_cluster import MemoryLister, pods_of

from controlloop.kube.connection import JSON, Connection, Object, Query
from controlloop.kube.remembering import Remembered
from controlloop.kube.resources import Resource
from controlloop.kube.workloads import WorkloadReader

Lists = dict[str, list[dict[str, Any]]]
NOBODY: Any = None
"""The lister gives all: no connection is asked."""


class ChangingLister(MemoryLister):
    """Lists that a test changes, as a watch does: an object is replaced by a newer one."""

    def __init__(self) -> None:
        super().__init__(servers=3, replicas=2, nodes=2)
        self.version = 2000
        self.added: Lists = {}

    def items(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> list[Object]:
        found = super().items(resource, timeout_s, namespace, query, accept)
        return [*found, *self.added.get(resource.plural, ())]

    def change(self, kind: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        self.version += 1
        for at, thing in enumerate(self._objects[kind]):
            if thing["metadata"]["name"] == name:
                newer: Any = deepcopy(thing)
                newer["metadata"]["resourceVersion"] = str(self.version)
                change(newer)
                self._objects[kind][at] = newer

    def add(self, kind: str, thing: dict[str, Any]) -> None:
        self.version += 1
        metadata = {"uid": f"u{self.version}", "resourceVersion": str(self.version)}
        thing["metadata"] |= metadata | {"namespace": "bench"}
        self.added.setdefault(kind, []).append(thing)


@pytest.fixture
def lister() -> ChangingLister:
    return ChangingLister()


@pytest.fixture
def reader(lister: ChangingLister) -> WorkloadReader:
    connection: Connection = NOBODY
    return WorkloadReader(connection, lister=lister)


def test_what_did_not_change_is_not_parsed_again(reader: WorkloadReader) -> None:
    before, after = reader.all(1.0).workloads, reader.all(1.0).workloads
    assert len(before) == 3
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_a_pod_that_changed_is_seen_and_its_neighbours_stay(
    lister: ChangingLister, reader: WorkloadReader
) -> None:
    before = reader.all(1.0).workloads
    (name, _) = pods_of("server-0001", 2)
    lister.change("pods", name, lambda pod: pod["status"].update(phase="Failed"))
    after = reader.all(1.0).workloads
    assert [pod.phase for pod in after[1].pods] == ["Failed", "Running"]
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[0] is before[0]


def test_a_pod_that_is_gone_is_gone(lister: ChangingLister, reader: WorkloadReader) -> None:
    reader.all(1.0)
    lister._objects["pods"] = lister._objects["pods"][1:]
    assert [len(one.pods) for one in reader.all(1.0).workloads] == [1, 2, 2]


def test_a_changed_spec_is_seen_at_its_version(
    lister: ChangingLister, reader: WorkloadReader
) -> None:
    reader.all(1.0)
    lister.change("deployments", "server-0002", lambda it: it["spec"].update(replicas=7))
    found = reader.all(1.0).workloads[2]
    assert (found.replicas, found.ref.resource_version) == (7, str(lister.version))


def test_another_scaler_that_comes_and_goes_is_seen(
    lister: ChangingLister, reader: WorkloadReader
) -> None:
    assert not reader.all(1.0).workloads[0].holds
    target = {"kind": "Deployment", "name": "server-0000"}
    hpa = {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": target}}
    lister.add("horizontalpodautoscalers", hpa)
    (hold,) = reader.all(1.0).workloads[0].holds
    assert "hpa" in hold.detail
    lister.added.clear()
    assert not reader.all(1.0).workloads[0].holds


def test_a_quota_that_is_used_up_meanwhile_is_seen(
    lister: ChangingLister, reader: WorkloadReader
) -> None:
    spec = {"hard": {"requests.nvidia.com/gpu": "9"}}
    lister.add("resourcequotas", {"metadata": {"name": "cards"}, "spec": spec})
    assert [each.used for each in reader.all(1.0).workloads[0].quotas] == [0]
    quota = lister.added["resourcequotas"][0]
    newer = deepcopy(quota) | {"status": {"used": {"requests.nvidia.com/gpu": "6"}}}
    newer["metadata"]["resourceVersion"] = "9999"
    lister.added["resourcequotas"] = [newer]
    assert [each.used for each in reader.all(1.0).workloads[0].quotas] == [6]


def test_of_a_fleet_that_is_gone_nothing_is_kept(
    lister: ChangingLister, reader: WorkloadReader
) -> None:
    reader.all(1.0)
    lister._objects["deployments"] = []
    assert reader.all(1.0).workloads == ()
    assert not reader._known._known


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    known: Remembered[int] = Remembered()
    made: list[str] = []

    def make() -> int:
        made.append("again")
        return len(made)

    assert [known.of("a", 1, make), known.of("a", 1, make)] == [1, 1]
    known.forget_others()
    known.forget_others()
    assert known.of("a", 1, make) == 2
