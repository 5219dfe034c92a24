"""Two processes, one Lease, on the real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from testbed.acting import TIMEOUT_S, a_patch, apply, read, settled
from testbed.fleet import Fleet
from testbed.objects import ManagedServer
from testbed.waiting import until

from controlloop.api.decision import PatchStatus
from controlloop.errors import ConflictError
from controlloop.kube.cluster import KubeCluster
from controlloop.kube.connection import Connection
from controlloop.kube.lease import Lease, LeaseKeeper, LeaseOptions

Connect = Callable[..., Connection]


@pytest.fixture
def options(fleet: Fleet) -> LeaseOptions:
    return LeaseOptions(fleet.namespace, duration_s=3, renew_every_s=0.5, retry_every_s=0.2)


@pytest.fixture
def keepers(connected: Connect, options: LeaseOptions) -> Iterator[list[LeaseKeeper]]:
    kept = [LeaseKeeper(Lease(connected(), options)) for _ in range(2)]
    yield kept
    for keeper in kept:
        if keeper.alive:
            keeper.stop(TIMEOUT_S)


def test_one_holds_it_and_hands_it_over_when_it_stops(
    fleet: Fleet, keepers: list[LeaseKeeper]
) -> None:
    first, second = keepers
    first.start()
    until(first.lease.remaining_s, "the first holds the lease")
    second.start()
    until(lambda: second.lease.holder == first.lease.identity, "the second sees the first")
    # Longer than the lease lasts: renewing is what keeps it.
    until(lambda: first.lease.held_for_s() > 4.0, "the first keeps the lease")
    assert second.lease.remaining_s() == 0
    first.stop(TIMEOUT_S)
    assert first.lease.remaining_s() == 0
    until(second.lease.remaining_s, "the second takes over")
    spec = lease_spec(fleet)
    assert spec["holderIdentity"] == second.lease.identity
    assert spec["leaseTransitions"] == 1
    assert spec["leaseDurationSeconds"] == 3


def test_the_standby_takes_over_from_a_leader_that_died_and_never_before_it_must(
    fleet: Fleet, connected: Connect, options: LeaseOptions, keepers: list[LeaseKeeper]
) -> None:
    dead, standby = Lease(connected(), options), keepers[0]
    dead.step()
    standby.start()

    def taken() -> bool:
        held = standby.lease.remaining_s() > 0
        assert not (held and dead.remaining_s() > 0), "two writers at one time"
        return held

    until(taken, "the standby takes over", pause_s=0.01)
    assert lease_spec(fleet)["leaseTransitions"] == 1


def test_a_deposed_leaders_write_is_not_sent(
    fleet: Fleet,
    cluster: KubeCluster,
    connected: Connect,
    options: LeaseOptions,
    keepers: list[LeaseKeeper],
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    deposed, successor = Lease(connected(), replace(options, duration_s=15)), keepers[0]
    deposed.step()
    patch = a_patch(read(cluster, "a"), 3)
    deposed.release()
    successor.start()
    until(successor.lease.remaining_s, "the successor holds the lease")
    deposed.step()
    before = fleet.resource_versions()
    ((status, detail),) = apply(cluster, patch, guard=deposed)
    assert status is PatchStatus.NOT_SENT
    assert "lease" in detail
    after = fleet.resource_versions()
    assert {path for path in after if "leases" not in path and after[path] != before[path]} == (
        set()
    )
    assert fleet.replicas("a") == 0


def test_a_late_patch_of_a_deposed_leader_meets_its_successors_version(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    settled(cluster, "a")
    late, timely = (a_patch(read(cluster, "a"), replicas) for replicas in (1, 2))
    assert apply(cluster, timely)[0][0] is PatchStatus.APPLIED
    with pytest.raises(ConflictError):
        cluster.patch(late, TIMEOUT_S, dry_run=False)
    assert fleet.replicas("a") == 2


def test_a_deleted_lease_is_made_anew(
    fleet: Fleet, connected: Connect, options: LeaseOptions
) -> None:
    lease = Lease(connected(), options)
    lease.step()
    fleet.kubectl("delete", "lease", options.name)
    lease.step()
    lease.step()
    assert lease.remaining_s() > 0
    assert lease_spec(fleet)["holderIdentity"] == lease.identity


def lease_spec(fleet: Fleet) -> dict[str, Any]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{fleet.namespace}/leases/controlloop"
    answer = fleet.control_plane.get(path)["spec"]
    assert isinstance(answer, dict)
    return answer
