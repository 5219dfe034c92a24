from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from controlloop.api.report import CycleReport
from controlloop.clock import Deadline, SystemClock
from controlloop.daemon.recorder import Recorder
from controlloop.daemon.runner import Runner
from controlloop.daemon.service import Service, Timing
from controlloop.errors import InputError, NotLeaderError, Problem
from controlloop.telemetry import Metrics


@dataclass
class SlowCycle:
    """Takes as long as it is told, and notes who was inside at once and what it was given."""

    seconds: float = 0.0
    inside: int = 0
    most_inside: int = 0
    sinces: list[float] = field(default_factory=list)
    ran: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def run_once(
        self, now: float, deadline: Deadline, since: float, stop: Callable[[], bool]
    ) -> CycleReport:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.set()
        time.sleep(self.seconds)
        self.inside -= 1
        self.sinces.append(since)
        if len(self.sinces) >= 3:
            self.ran.set()
        return CycleReport(now, ())


@dataclass
class GivenLease:
    left_s: float = 10.0
    for_s: float = 100.0
    holder: str = "another"
    problem: str | None = None

    def remaining_s(self) -> float:
        return self.left_s

    def held_for_s(self) -> float:
        return self.for_s


class GoodSource:
    problem: str | None = None
    looked = 0

    def load(self) -> None:
        self.looked += 1


class BadSource(GoodSource):
    def load(self) -> None:
        self.problem = "capacity-data.json: is not JSON"
        raise InputError([Problem("", self.problem)])


class JumpyClock(SystemClock):
    offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


def a_service(
    cycle: SlowCycle,
    lease: GivenLease | None = None,
    clock: SystemClock | None = None,
    period_s: float = 0.05,
    deadline_s: float = 5.0,
    source: GoodSource | None = None,
) -> Service:
    metrics = Metrics()
    return Service(
        cycle,  # type: ignore[arg-type]  # it has the one method that is called
        source or GoodSource(),  # type: ignore[arg-type]  # its data is not looked into
        lease,
        clock or SystemClock(),
        Timing(period_s, deadline_s),
        metrics,
        Recorder(metrics),
    )


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_until(event: threading.Event, runner: Runner, then: Callable[[], object]) -> None:
    def end() -> None:
        event.wait(20.0)
        then()

    ender = threading.Thread(target=end)
    ender.start()
    runner.run()
    ender.join()
    assert event.is_set()


def test_cycles_run_each_period_and_never_two_at_once_even_when_they_are_late() -> None:
    cycle = SlowCycle(seconds=0.2)
    service = a_service(cycle)
    runner = Runner(service, None, None, SystemClock())
    invoked = threading.Thread(target=lambda: service.run_cycle("invoke"))
    invoked.start()
    run_until(cycle.ran, runner, runner.stop)
    invoked.join()
    assert len(cycle.sinces) >= 3
    assert cycle.most_inside == 1


def test_sigterm_finishes_the_cycle_in_hand() -> None:
    cycle = SlowCycle(seconds=0.5)
    runner = Runner(a_service(cycle, period_s=60.0), None, None, SystemClock())
    run_until(cycle.entered, runner, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert cycle.inside == 0
    assert len(cycle.sinces) == 1


def test_a_signal_that_comes_just_as_the_wait_for_it_begins_is_heeded() -> None:
    service = a_service(SlowCycle())
    runner = Runner(service, None, None, SystemClock())
    runner._heed_signals()
    # As within `Event.wait`, which holds this lock until it sleeps.
    with service.stopping._cond:  # type: ignore[attr-defined]  # what CPython calls it
        os.kill(os.getpid(), signal.SIGTERM)
    assert service.stopping.wait(20.0)


def test_after_a_stop_no_cycle_begins() -> None:
    cycle = SlowCycle()
    service = a_service(cycle)
    service.finish()
    with pytest.raises(NotLeaderError, match="shutting down"):
        service.run_cycle("invoke")
    assert cycle.sinces == []
    assert service.ready().reasons == ("shutting down",)


def test_a_standby_runs_no_cycle_and_is_alive() -> None:
    cycle = SlowCycle()
    service = a_service(cycle, GivenLease(left_s=0.0))
    service.run_due()
    assert cycle.sinces == []
    assert service.alive().ok
    assert service.ready().ok
    with pytest.raises(NotLeaderError, match="another"):
        service.run_cycle("invoke")


def test_a_standby_looks_at_the_data_so_that_it_can_take_over() -> None:
    source = GoodSource()
    service = a_service(SlowCycle(), GivenLease(left_s=0.0), source=source)
    service.run_due()
    service.run_due()
    assert source.looked == 2
    bad = a_service(SlowCycle(), GivenLease(left_s=0.0), source=BadSource())
    bad.run_due()
    assert bad.alive().ok
    assert bad.ready().reasons == ("data: capacity-data.json: is not JSON",)
    assert bad.metrics.registry.get_sample_value("controlloop_data_problem") == 1


def test_who_cannot_even_look_at_the_lease_says_so() -> None:
    lease = GivenLease(left_s=0.0, holder="", problem="cannot read Lease: connection refused")
    with pytest.raises(NotLeaderError, match="nobody yet: cannot read Lease: connection refused"):
        a_service(SlowCycle(), lease).run_cycle("invoke")


def test_control_begins_when_the_lease_was_got_not_when_the_process_started() -> None:
    cycle = SlowCycle()
    service = a_service(cycle, GivenLease(for_s=7.0))
    now = time.time()
    service.run_cycle("invoke")
    assert cycle.sinces[0] == pytest.approx(now - 7.0, abs=1.0)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_moves_the_next_appointment_with_it(jump_s: float) -> None:
    clock = JumpyClock()
    cycle = SlowCycle()
    runner = Runner(a_service(cycle, clock=clock, period_s=600.0), None, None, clock)
    moved: list[float] = []

    def jump() -> None:
        (job,) = runner._scheduler.get_jobs()
        before = job.next_run_time
        clock.offset = jump_s
        assert runner.check_clock()
        moved.append((job.next_run_time - before).total_seconds())
        assert not runner.check_clock()
        runner.stop()

    run_until(cycle.entered, runner, jump)
    assert moved == [pytest.approx(jump_s, abs=1.0)]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_an_appointment_that_was_made_after_the_jump_stays(jump_s: float) -> None:
    clock = JumpyClock()
    cycle = SlowCycle()
    runner = Runner(a_service(cycle, clock=clock, period_s=600.0), None, None, clock)
    ahead: list[float] = []

    def jump() -> None:
        (job,) = runner._scheduler.get_jobs()
        clock.offset = jump_s
        # The scheduler looked at the clock before the watchdog did.
        sooner = datetime.fromtimestamp(clock.now() + 300.0, UTC)
        job.modify(next_run_time=sooner)
        assert runner.check_clock()
        ahead.append(job.next_run_time.timestamp() - clock.now())
        runner.stop()

    run_until(cycle.entered, runner, jump)
    assert ahead == [pytest.approx(300.0, abs=5.0)]


def test_a_cycle_stuck_past_twice_its_deadline_ends_the_process() -> None:
    cycle = SlowCycle(seconds=0.6)
    service = a_service(cycle, deadline_s=0.1, period_s=60.0)
    ended: list[int] = []
    runner = Runner(service, None, None, SystemClock(), ended.append)
    working = threading.Thread(target=lambda: service.run_cycle("invoke"))
    working.start()
    cycle.entered.wait(5.0)
    runner.check_stuck()
    assert ended == []
    give_up = time.monotonic() + 5.0
    while not ended and time.monotonic() < give_up:
        runner.check_stuck()
    working.join()
    assert ended[0] == 1
    ended.clear()
    runner.check_stuck()
    assert ended == []


@dataclass
class GivenKeeper:
    """Has the lease a moment after it was started, or never."""

    lease: GivenLease
    gets_it: bool = True
    silent_s: float = 0.0
    stopped: bool = False

    def start(self) -> None:
        if self.gets_it:
            threading.Timer(0.05, lambda: setattr(self.lease, "left_s", 10.0)).start()

    def stop(self, timeout_s: float) -> None:
        self.stopped = True

    def overdue_s(self) -> float:
        return self.silent_s


def test_a_single_cycle_waits_for_the_lease_and_gives_it_up() -> None:
    cycle, lease = SlowCycle(), GivenLease(left_s=0.0)
    keeper = GivenKeeper(lease)
    service = a_service(cycle, lease)
    runner = Runner(service, keeper, None, SystemClock(), lease_within_s=20.0)
    assert runner.run_once().succeeded
    assert len(cycle.sinces) == 1
    assert keeper.stopped


def test_a_single_cycle_that_cannot_have_the_lease_says_who_has_it() -> None:
    cycle, lease = SlowCycle(), GivenLease(left_s=0.0)
    keeper = GivenKeeper(lease, gets_it=False)
    runner = Runner(a_service(cycle, lease), keeper, None, SystemClock(), lease_within_s=0.1)
    with pytest.raises(NotLeaderError, match="another"):
        runner.run_once()
    assert cycle.sinces == []
    assert keeper.stopped


def test_a_single_cycle_is_watched_and_heeds_a_stop() -> None:
    cycle = SlowCycle(seconds=1.5)
    service = a_service(cycle, deadline_s=0.1)
    ended: list[int] = []
    runner = Runner(service, None, None, SystemClock(), ended.append)

    def stop_it() -> None:
        cycle.entered.wait(5.0)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    runner.run_once()
    stopper.join()
    assert ended
    assert service.stopping.is_set()


def test_a_keeper_that_is_silent_ends_the_process() -> None:
    lease = GivenLease()
    keeper = GivenKeeper(lease)
    ended: list[int] = []
    runner = Runner(a_service(SlowCycle(), lease), keeper, None, SystemClock(), ended.append)
    runner.check_stuck()
    assert ended == []
    keeper.silent_s = 1.0
    runner.check_stuck()
    assert ended == [1]


def test_a_log_that_blocks_does_not_keep_a_stuck_process_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = GivenLease()
    ended: list[int] = []
    keeper = GivenKeeper(lease, silent_s=1.0)
    runner = Runner(a_service(SlowCycle(), lease), keeper, None, SystemClock(), ended.append)
    free = threading.Event()

    class BlockedLog:
        def error(self, *_: object, **__: object) -> None:
            free.wait(20.0)

    monkeypatch.setattr(runner, "_log", BlockedLog())
    runner.check_stuck()
    free.set()
    assert ended == [1]


def test_telling_is_a_part_of_the_cycle_that_is_watched() -> None:
    service = a_service(SlowCycle(), deadline_s=0.05)
    overdue: list[bool] = []

    class BlockedRecorder:
        def record(self, report: CycleReport, trigger: str) -> None:
            give_up = time.monotonic() + 5.0
            while not overdue and time.monotonic() < give_up:
                if service.overdue_s() > 0:
                    overdue.append(True)

    service._recorder = BlockedRecorder()  # type: ignore[assignment]  # it has the one method
    service.run_cycle("invoke")
    assert overdue
    assert service.overdue_s() == 0


def test_a_cycle_that_became_due_during_another_is_not_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cycle = SlowCycle(seconds=0.75)
    runner = Runner(a_service(cycle, period_s=0.5), None, None, SystemClock())
    done = threading.Event()

    def await_one() -> None:
        give_up = time.monotonic() + 20.0
        while not cycle.sinces and time.monotonic() < give_up:
            time.sleep(0.01)
        done.set()

    threading.Thread(target=await_one).start()
    run_until(done, runner, runner.stop)
    assert "skipped" not in caplog.text


def test_without_a_lease_a_jump_of_the_wall_clock_is_no_time_in_control() -> None:
    clock, cycle = JumpyClock(), SlowCycle()
    service = a_service(cycle, clock=clock)
    clock.offset = 3600.0
    service.run_cycle("invoke")
    assert clock.now() - cycle.sinces[0] < 60.0
