from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.clock import ManualClock
from controlloop.errors import ConflictError, NotFoundError, UnavailableError
from controlloop.kube.connection import Connection
from controlloop.kube.lease import Lease, LeaseKeeper, LeaseOptions

DURATION_S = 15


class OwnClock:
    """A process's clock: runs with the others, but its origin is its own."""

    def __init__(self, shared: ManualClock, ahead_s: float) -> None:
        self._shared = shared
        self._ahead_s = ahead_s

    def now(self) -> float:
        return self._shared.now() + self._ahead_s

    def monotonic(self) -> float:
        return self._shared.monotonic() + self._ahead_s


@dataclass
class LeaseServer:
    """One Lease as the API server keeps it; a request can be slow, or fail before or after."""

    clock: ManualClock
    lease: dict[str, Any] | None = None
    versions: Any = field(default_factory=lambda: itertools.count(1))
    slow_before_s: float = 0.0
    slow_after_s: float = 0.0
    fails: str = ""
    requests: list[str] = field(default_factory=list)

    def get(self, path: str, what: str, timeout_s: float) -> Any:
        return self._serve("GET", what, self._read)

    def send(self, method: str, path: str, what: str, timeout_s: float, body: Any, *_: Any) -> Any:
        return self._serve(method, what, lambda: self._write(method, body))

    def touch(self, **spec: str) -> None:
        """What a person with kubectl does to it."""
        assert self.lease is not None
        self.lease["spec"].update(spec)
        self.lease["metadata"]["resourceVersion"] = str(next(self.versions))

    def _serve(self, method: str, what: str, work: Callable[[], Any]) -> Any:
        self.requests.append(method)
        self.clock.advance(self.slow_before_s)
        if self.fails == "before":
            raise UnavailableError(f"cannot {what}: connection refused")
        answer = copy.deepcopy(work())
        self.clock.advance(self.slow_after_s)
        if self.fails == "after":
            raise UnavailableError(f"cannot {what}: timed out")
        return answer

    def _read(self) -> Any:
        if self.lease is None:
            raise NotFoundError("no such lease")
        return self.lease

    def _write(self, method: str, body: Any) -> Any:
        if method == "POST":
            if self.lease is not None:
                raise ConflictError("exists")
        elif self.lease is None:
            raise NotFoundError("no such lease")
        elif body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError("changed")
        self.lease = copy.deepcopy(dict(body))
        self.lease["metadata"] = {**body["metadata"], "resourceVersion": str(next(self.versions))}
        return self.lease

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        return cast("dict[str, Any]", self.lease["spec"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000.0)


@pytest.fixture
def server(clock: ManualClock) -> LeaseServer:
    return LeaseServer(clock)


def a_process(server: LeaseServer, ahead_s: float = 0.0) -> Lease:
    options = LeaseOptions(duration_s=DURATION_S, renew_every_s=4.0)
    clock = OwnClock(server.clock, ahead_s)
    return Lease(cast("Connection", server), options, clock)


def test_the_first_process_gets_a_lease_that_nobody_has(server: LeaseServer) -> None:
    lease = a_process(server)
    assert lease.remaining_s() == 0
    lease.step()
    assert lease.remaining_s() == DURATION_S
    assert server.spec["holderIdentity"] == lease.identity
    assert server.spec["leaseTransitions"] == 0
    assert server.spec["leaseDurationSeconds"] == DURATION_S


def test_two_processes_of_one_name_are_two_holders(server: LeaseServer) -> None:
    assert a_process(server).identity != a_process(server).identity


def test_what_remains_counts_from_before_the_request_was_sent(server: LeaseServer) -> None:
    lease = a_process(server)
    lease.step()
    server.slow_before_s, server.slow_after_s = 1.0, 2.0
    lease.step()
    assert lease.remaining_s() == DURATION_S - 3.0


def test_a_renewal_is_one_request_and_moves_only_the_time(
    server: LeaseServer, clock: ManualClock
) -> None:
    lease = a_process(server)
    lease.step()
    acquired, renewed = server.spec["acquireTime"], server.spec["renewTime"]
    server.requests.clear()
    clock.advance(4.0)
    lease.step()
    assert server.requests == ["PUT"]
    assert lease.remaining_s() == DURATION_S
    assert lease.held_for_s() == 4.0
    assert server.spec["acquireTime"] == acquired
    assert server.spec["renewTime"] > renewed


def test_a_failed_renewal_leaves_the_guard_running_out(
    server: LeaseServer, clock: ManualClock
) -> None:
    lease = a_process(server)
    lease.step()
    server.fails = "before"
    clock.advance(4.0)
    lease.step()
    assert lease.remaining_s() == DURATION_S - 4.0
    assert "connection refused" in str(lease.problem)
    clock.advance(DURATION_S)
    assert lease.remaining_s() == 0
    assert lease.held_for_s() == 0
    server.fails = ""
    lease.step()
    assert lease.problem is None
    assert lease.remaining_s() == DURATION_S
    assert lease.held_for_s() == 0, "a break in control starts the time anew"


def test_a_renewal_whose_answer_was_lost_is_found_to_be_ours(
    server: LeaseServer, clock: ManualClock
) -> None:
    lease = a_process(server)
    lease.step()
    server.fails = "after"
    clock.advance(4.0)
    lease.step()
    server.fails = ""
    clock.advance(2.0)
    lease.step()
    assert lease.remaining_s() == DURATION_S
    assert lease.held_for_s() == 6.0


def test_a_lease_that_somebody_else_touched_is_still_ours(server: LeaseServer) -> None:
    lease = a_process(server)
    lease.step()
    server.touch()
    lease.step()
    assert lease.remaining_s() == DURATION_S
    assert lease.problem is None


def test_a_lease_that_was_given_to_another_is_lost_at_once(
    server: LeaseServer, clock: ManualClock
) -> None:
    leader = a_process(server)
    leader.step()
    server.touch(holderIdentity="somebody")
    clock.advance(4.0)
    leader.step()
    assert leader.remaining_s() == 0
    assert leader.held_for_s() == 0
    assert leader.holder == "somebody"
    assert server.spec["holderIdentity"] == "somebody"


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -3600.0])
def test_a_standby_takes_over_when_the_holder_is_gone_and_not_before(
    server: LeaseServer, clock: ManualClock, ahead_s: float
) -> None:
    leader, standby = a_process(server), a_process(server, ahead_s)
    leader.step()
    for _ in range(10):
        clock.advance(4.0)
        leader.step()
        standby.step()
        assert standby.remaining_s() == 0
    assert standby.holder == leader.identity
    clock.advance(DURATION_S - 0.1)
    standby.step()
    assert standby.remaining_s() == 0
    clock.advance(0.2)
    standby.step()
    assert standby.remaining_s() == DURATION_S
    assert server.spec["leaseTransitions"] == 1
    leader.step()
    assert leader.remaining_s() == 0
    assert leader.holder == standby.identity


def test_a_standby_need_not_wait_for_a_lease_that_was_released(server: LeaseServer) -> None:
    leader, standby = a_process(server), a_process(server)
    leader.step()
    standby.step()
    leader.release()
    assert leader.remaining_s() == 0
    standby.step()
    assert standby.remaining_s() == DURATION_S
    assert server.spec["leaseTransitions"] == 1


def test_who_never_held_the_lease_releases_nothing(server: LeaseServer) -> None:
    leader, standby = a_process(server), a_process(server)
    leader.step()
    standby.step()
    standby.release()
    assert server.spec["holderIdentity"] == leader.identity


def test_a_deleted_lease_is_lost_and_made_anew(server: LeaseServer, clock: ManualClock) -> None:
    leader = a_process(server)
    leader.step()
    server.lease = None
    clock.advance(4.0)
    leader.step()
    assert leader.remaining_s() == 0
    leader.step()
    assert leader.remaining_s() == DURATION_S
    assert leader.held_for_s() == 0


def test_a_standby_waits_out_the_holder_of_a_deleted_lease(
    server: LeaseServer, clock: ManualClock
) -> None:
    leader, standby = a_process(server), a_process(server)
    leader.step()
    standby.step()
    server.lease = None
    clock.advance(DURATION_S - 1.0)
    standby.step()
    assert standby.remaining_s() == 0
    clock.advance(1.5)
    standby.step()
    assert standby.remaining_s() == DURATION_S
    leader.step()
    assert leader.remaining_s() == 0


def test_a_namespace_that_is_not_there_is_a_problem_to_be_told(
    server: LeaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise NotFoundError("cannot create Lease inferno/controlloop: no namespace inferno")

    lease = a_process(server)
    monkeypatch.setattr(server, "send", refuse)
    lease.step()
    assert lease.remaining_s() == 0
    assert "namespace inferno" in str(lease.problem)


@pytest.mark.parametrize("renew_every_s", [0.0, 8.0, 20.0])
def test_a_renewal_that_comes_too_late_is_bad_input(renew_every_s: float) -> None:
    with pytest.raises(ValueError, match="renew_every_s"):
        LeaseOptions(duration_s=DURATION_S, renew_every_s=renew_every_s)


a_step = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["", "", "", "before", "after"]),
    st.floats(0.0, 6.0),
    st.floats(0.0, 6.0),
    st.floats(0.0, 20.0),
)


@given(st.lists(a_step, max_size=40), st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_never_do_two_processes_hold_the_lease(
    steps: list[tuple[int, str, float, float, float]], ahead_s: list[float]
) -> None:
    server = LeaseServer(ManualClock(1e6))
    processes = [a_process(server, ahead) for ahead in ahead_s]
    for who, fails, before_s, after_s, pause_s in steps:
        server.fails, server.slow_before_s, server.slow_after_s = fails, before_s, after_s
        processes[who].step()
        assert sum(process.remaining_s() > 0 for process in processes) <= 1
        server.clock.advance(pause_s)
        assert sum(process.remaining_s() > 0 for process in processes) <= 1


@pytest.mark.parametrize("spoilt", [{}, {"metadata": {}}])
def test_a_lease_that_makes_no_sense_is_a_failed_step_and_no_end(
    server: LeaseServer, spoilt: dict[str, Any]
) -> None:
    lease = a_process(server)
    server.lease = spoilt
    lease.step()
    assert lease.problem
    assert lease.remaining_s() == 0
    server.lease = None
    lease.step()
    assert lease.remaining_s() > 0


def test_a_keeper_whose_thread_does_not_come_back_is_overdue(
    server: LeaseServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, over = threading.Event(), threading.Event()

    def hang(*_: Any) -> Any:
        hangs.set()
        over.wait(20.0)
        raise UnavailableError("it hung")

    lease = a_process(server)
    monkeypatch.setattr(server, "get", hang)
    keeper = LeaseKeeper(lease, clock)
    keeper.start()
    hangs.wait(5.0)
    clock.advance(2 * lease.step_within_s)
    assert keeper.overdue_s() == 0
    clock.advance(1.0)
    assert keeper.overdue_s() == pytest.approx(1.0)
    over.set()
    keeper.stop(10.0)
