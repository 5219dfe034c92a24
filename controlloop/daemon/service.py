"""The daemon: runs cycles when they are due or asked for, one at a time, as the one writer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from controlloop.api.report import CycleReport
from controlloop.api.verdict import Verdict
from controlloop.clock import Clock, Deadline
from controlloop.cycle import Cycle
from controlloop.daemon.health import Heartbeat
from controlloop.daemon.recorder import Recorder
from controlloop.daemon.troubles import Announcer, Moment, ToldStore, troubles_of
from controlloop.errors import InputError, NotLeaderError
from controlloop.protocols import Lease, Source
from controlloop.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Timing:
    """When cycles run and how long they may take, in seconds; a period of 0 is on demand."""

    period_s: float
    deadline_s: float


class Service:
    """Everything of the daemon but its threads.

    Args:
        cycle: what is run.
        source: whose problems make the daemon unready.
        lease: the right to write, None where nothing is ever written (dry run).
        clock: for time stamps and durations.
        timing: see `Timing`.
        metrics: the daemon's metrics.
        recorder: takes every report.
        announcer: tells what concerns the whole loop; None tells nothing.
        stores: where the parts keep what they learned.
        maintenance: says why nothing is to be written now, "" where writing is allowed.

    """

    def __init__(
        self,
        cycle: Cycle,
        source: Source,
        lease: Lease | None,
        clock: Clock,
        timing: Timing,
        metrics: Metrics,
        recorder: Recorder,
        announcer: Announcer | None = None,
        stores: Iterable[ToldStore] = (),
        maintenance: Callable[[], str] = str,
    ) -> None:
        self.timing = timing
        self.metrics = metrics
        self.stopping = threading.Event()
        self._cycle = cycle
        self._source = source
        self._lease = lease
        self._clock = clock
        self._recorder = recorder
        self._announcer = announcer or Announcer(metrics)
        self._stores = tuple(stores)
        self._maintenance = maintenance
        self._led = False
        self._one_at_a_time = threading.Lock()
        self._last: CycleReport | None = None
        self._started = clock.monotonic()
        self._heartbeat = Heartbeat(timing.period_s, timing.deadline_s, clock.monotonic())
        self._log = structlog.get_logger("controlloop")
        metrics.leader.set_function(lambda: float(self.leads))

    @property
    def leads(self) -> bool:
        """Whether this process may write now; a dry run needs no leave."""
        return self._lease is None or self._lease.remaining_s() > 0

    def run_cycle(self, trigger: str) -> CycleReport:
        """Run one cycle now, after the one under way if there is one.

        Raises:
            NotLeaderError: another process holds the lease.

        """
        with self._one_at_a_time:
            if self.stopping.is_set():
                raise NotLeaderError("this process is shutting down; no cycle begins")
            since = self._in_control_since()
            self._heartbeat.begin(self._clock.monotonic())
            report = self._cycle.run_once(
                self._clock.now(),
                Deadline(self._clock, self.timing.deadline_s),
                since,
                self.stopping.is_set,
            )
            if report.outcome is None:
                # It did not come to ask; that a cycle fails is no end of a maintenance.
                report = replace(report, maintenance=self._maintenance())
            self._last = report
            try:
                self._count_data()
                self._recorder.record(report, trigger)
                self._announce(report)
            finally:
                # Telling is part of the cycle: a log that blocks leaves the loop stuck too.
                self._heartbeat.end(self._clock.monotonic(), report)
            return report

    def run_due(self) -> None:
        """The scheduler's call: a cycle if this process leads, else a sign of life."""
        try:
            self.run_cycle("schedule")
        except NotLeaderError as error:
            self._look_at_data()
            self._heartbeat.stand_by(self._clock.monotonic())
            self._log.info("standby", reason=str(error))

    def finish(self) -> None:
        """Wait for the cycle under way, whoever asked for it; none begins after this."""
        with self._one_at_a_time:
            self.stopping.set()

    def overdue_s(self) -> float:
        """By how much the cycle under way exceeds twice its deadline."""
        return self._heartbeat.overdue_s(self._clock.monotonic())

    def last_report(self) -> CycleReport | None:
        """The report of the last cycle of this process; None before there is one."""
        return self._last

    def alive(self) -> Verdict:
        """Whether the loop moves."""
        return self._heartbeat.alive(self._clock.monotonic())

    def ready(self) -> Verdict:
        """Whether decisions are made, and on what is true now."""
        if self.stopping.is_set():
            return Verdict(("shutting down",))
        return self._heartbeat.ready(self._source.problem, standby=not self.leads)

    def _look_at_data(self) -> None:
        """Read the data: a standby says what is bad, and takes over with the last that was good."""
        with self._one_at_a_time, contextlib.suppress(InputError):
            self._source.load()
        self._led = False
        self._announcer.standing(troubles_of(None, self._source.problem, self._stores))
        self._count_data()

    def _count_data(self) -> None:
        self.metrics.data_problem.set(self._source.problem is not None)

    def clock_jumped(self, jump_s: float) -> None:
        """Told by the watchdog, which plans the next cycle anew."""
        detail = f"by {jump_s:+.1f} s; the next cycle is planned anew"
        self._announcer.happened(Moment.CLOCK_JUMPED, detail)

    def _announce(self, report: CycleReport) -> None:
        if self.stopping.is_set():
            # A cycle that was cut short because somebody stopped it is no trouble.
            return
        if self._lease is not None and not self._led:
            self._announcer.happened(Moment.LEASE_TAKEN, "this process decides and writes")
        self._led = True
        self._announcer.standing(troubles_of(report, self._source.problem, self._stores))
        self._announcer.write_events(leads=self.leads)

    def _in_control_since(self) -> float:
        # Durations are of the monotonic clock: a jump of the wall's is no time in control.
        now = self._clock.now()
        if self._lease is None:
            return now - (self._clock.monotonic() - self._started)
        held_for_s = self._lease.held_for_s()
        if self._lease.remaining_s() <= 0 or held_for_s <= 0:
            holder = self._lease.holder or "nobody yet"
            why = f": {self._lease.problem}" if self._lease.problem else ""
            raise NotLeaderError(
                f"this process does not hold the lease; its holder is {holder}{why}"
            )
        return now - held_for_s
