"""The daemon's threads: scheduler, watchdog, signals; and an end that leaves nothing open.

APScheduler measures by the wall clock, which jumps; the watchdog measures by the monotonic clock
and plans the next cycle anew when the two part. A cycle that is late is run, never skipped, and
never two at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import Final, Protocol

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from controlloop.api.report import CycleReport
from controlloop.clock import Clock
from controlloop.daemon.service import Service
from controlloop.protocols import Keeper

CLOCK_JUMP_S: Final = 2.0
WATCH_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 0.05
TELL_WITHIN_S: Final = 1.0
RELEASE_WITHIN_S: Final = 10.0
EXIT_STUCK: Final = 1


class Endpoints(Protocol):
    """The daemon's HTTP side."""

    def start(self) -> None:
        """Begin to answer."""
        ...

    def stop(self) -> None:
        """Answer what is under way, then end."""
        ...


class Runner:
    """Runs a service until it is told to stop.

    Args:
        service: the daemon.
        keeper: keeps the lease, None where none is needed.
        endpoints: its HTTP side, None for none.
        clock: both of its faces are watched.
        end_process: ends the process at once; called when a thread is stuck for good.
        lease_within_s: how long a single cycle waits for the lease.

    """

    def __init__(
        self,
        service: Service,
        keeper: Keeper | None,
        endpoints: Endpoints | None,
        clock: Clock,
        end_process: Callable[[int], object] = os._exit,
        lease_within_s: float = 0.0,
    ) -> None:
        self._service = service
        self._keeper = keeper
        self._endpoints = endpoints
        self._clock = clock
        self._end_process = end_process
        self._lease_within_s = lease_within_s
        self._stop = service.stopping
        self._ended = threading.Event()
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._log = structlog.get_logger("controlloop")
        self._offset = clock.now() - clock.monotonic()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; the stage in hand is finished, nothing is left half done."""
        self._heed_signals()
        self._log.info("start", period_s=self._service.timing.period_s)
        if self._endpoints is not None:
            self._endpoints.start()
        if self._keeper is not None:
            self._keeper.start()
        self._begin_watch()
        self._schedule()
        self._stop.wait()
        self._shut_down()

    def run_once(self) -> CycleReport:
        """One cycle as the one writer, watched and stopped as in `run`; then the lease is free.

        Raises:
            NotLeaderError: another process holds the lease, and still does after the wait for it.

        """
        self._heed_signals()
        if self._keeper is not None:
            self._keeper.start()
        self._begin_watch()
        try:
            give_up = self._clock.monotonic() + self._lease_within_s
            while not self._service.leads and self._clock.monotonic() < give_up:
                if self._stop.wait(LOOK_EVERY_S):
                    break
            return self._service.run_cycle("once")
        finally:
            if self._keeper is not None:
                self._keeper.stop(RELEASE_WITHIN_S)
            self._ended.set()

    def stop(self) -> None:
        """Ask the run to end."""
        self._stop.set()

    def check_clock(self) -> bool:
        """Plan the next cycle anew if the wall clock jumped; whether it did."""
        offset = self._clock.now() - self._clock.monotonic()
        jump_s = offset - self._offset
        if abs(jump_s) < CLOCK_JUMP_S:
            return False
        self._offset = offset
        self._tell(partial(self._service.clock_jumped, jump_s))
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        latest = now + timedelta(seconds=self._service.timing.period_s)
        for job in self._scheduler.get_jobs():
            appointed = job.next_run_time
            # One within the period was made after the jump, by a scheduler that was sooner.
            if appointed is None or now <= appointed <= latest:
                continue
            # What the wall clock gained or lost, the appointment gains or loses.
            moved = min(max(appointed + timedelta(seconds=jump_s), now), latest)
            # A job that a stop removes meanwhile has none any more.
            with contextlib.suppress(JobLookupError):
                job.modify(next_run_time=moved)
        return True

    def _schedule(self) -> None:
        period_s = self._service.timing.period_s
        if period_s > 0:
            self._scheduler.add_job(
                self._service.run_due,
                "interval",
                seconds=period_s,
                next_run_time=datetime.now(UTC),
                # One under way and one that waits for it: else what is late would be skipped.
                max_instances=2,
                coalesce=True,
                misfire_grace_time=None,
            )
        self._scheduler.start()

    def _begin_watch(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        # The stage in hand at a stop is watched too: the process ends with the last thread.
        while not self._ended.wait(WATCH_EVERY_S):
            self.check_stuck()
            self.check_clock()

    def check_stuck(self) -> None:
        """End the process if a cycle or the lease's keeper is stuck: a thread cannot be killed."""
        overdue = {"cycle": self._service.overdue_s()}
        if self._keeper is not None:
            overdue["lease"] = self._keeper.overdue_s()
        for what, overdue_s in overdue.items():
            if overdue_s > 0:
                facts = {"what": what, "overdue_s": round(overdue_s, 1)}
                reason = "exit to be restarted"
                self._tell(partial(self._log.error, "stuck", **facts, reason=reason))
                self._end_process(EXIT_STUCK)

    @staticmethod
    def _tell(say: Callable[[], object]) -> None:
        """Log, and wait for it no longer than a moment: what is stuck may be the log itself."""
        telling = threading.Thread(target=say, daemon=True)
        telling.start()
        telling.join(TELL_WITHIN_S)

    def _heed_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's arguments
        # Not here: what is interrupted may hold the event's own lock, as its wait for it begins.
        threading.Thread(target=self._stop.set, name="stop", daemon=True).start()

    def _shut_down(self) -> None:
        self._log.info("stop", reason="asked to; the stage in hand is finished first")
        self._scheduler.shutdown(wait=True)
        self._service.finish()
        if self._keeper is not None:
            self._keeper.stop(RELEASE_WITHIN_S)
        self._ended.set()
        if self._endpoints is not None:
            self._endpoints.stop()
        self._log.info("stopped")
