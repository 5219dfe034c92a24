"""Health from the loop's own progress: a cycle that returned, whatever its outcome, is progress."""

from __future__ import annotations

import threading

from controlloop.api.report import CycleReport
from controlloop.api.verdict import Verdict


class Heartbeat:
    """Knows whether the loop moves. All times are seconds of the monotonic clock.

    Args:
        period_s: the control period; 0 is on demand only, which never counts as stuck.
        deadline_s: the time a cycle may take.
        started: when the process began.

    """

    def __init__(self, period_s: float, deadline_s: float, started: float) -> None:
        self._period_s = period_s
        self._deadline_s = deadline_s
        self._progress = started
        self._began: float | None = None
        self._last: CycleReport | None = None
        self._lock = threading.Lock()

    @property
    def last_report(self) -> CycleReport | None:
        """The report of the last cycle that returned."""
        with self._lock:
            return self._last

    def begin(self, monotonic: float) -> None:
        """A cycle begins."""
        with self._lock:
            self._began = monotonic

    def end(self, monotonic: float, report: CycleReport) -> None:
        """A cycle returned."""
        with self._lock:
            self._began, self._progress, self._last = None, monotonic, report

    def stand_by(self, monotonic: float) -> None:
        """No cycle was due because another process leads: that is progress too."""
        with self._lock:
            self._progress = monotonic

    def overdue_s(self, monotonic: float) -> float:
        """By how much the cycle under way exceeds twice its deadline; 0 when none does."""
        with self._lock:
            if self._began is None:
                return 0.0
            return max(0.0, monotonic - self._began - 2 * self._deadline_s)

    def alive(self, monotonic: float) -> Verdict:
        """Whether the loop moves: what a liveness probe asks."""
        if self.overdue_s(monotonic) > 0:
            return Verdict(("the cycle under way has exceeded twice its deadline",))
        with self._lock:
            if self._period_s <= 0 or self._began is not None:
                return Verdict()
            silent_s = monotonic - self._progress
            allowed_s = 2 * self._period_s + 2 * self._deadline_s
            if silent_s > allowed_s:
                return Verdict((f"no cycle for {silent_s:.0f} s, allowed are {allowed_s:.0f} s",))
            return Verdict()

    def ready(self, data_problem: str | None, *, standby: bool) -> Verdict:
        """Whether decisions are made on what is true now: what a readiness probe asks."""
        reasons = [] if data_problem is None else [f"data: {data_problem}"]
        last = self.last_report
        if standby or (last is None and self._period_s <= 0):
            return Verdict(tuple(reasons))
        if last is None:
            return Verdict((*reasons, "no cycle has run yet"))
        if last.failure is not None:
            failure = last.failure
            reasons.append(f"the last cycle failed in its {failure.stage} stage: {failure.message}")
        if last.observation is not None and last.observation.metrics_problem is not None:
            reasons.append(f"metrics: {last.observation.metrics_problem}")
        told = last.maintenance
        remarks = (f"maintenance, nothing is written: {told}",) if told else ()
        return Verdict(tuple(reasons), remarks)
