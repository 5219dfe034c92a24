"""Knative's pod autoscaler: a stable window, and a short one that panics.

https://knative.dev/docs/serving/autoscaling/kpa-specific/. Concurrency is averaged over both
windows; where the short one asks for at least `panic_threshold` times what is ready, the server
panics: it grows by the short window and never shrinks until a stable window passes in peace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from controlloop.backtest.view import ServerView

TICK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class KpaRules:
    """The defaults of Knative's `config-autoscaler`."""

    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    max_up_rate: float = 1000.0
    max_down_rate: float = 2.0


@dataclass(slots=True)
class Kpa:
    """Implements `Autoscaler`. `target` is requests in flight a replica."""

    target: float
    rules: KpaRules = field(default_factory=KpaRules)
    _samples: list[tuple[float, float]] = field(default_factory=list)
    _panicked_at: float | None = None
    _most_in_panic: int = 0
    _started: bool = False

    def decide(self, now: float, view: ServerView) -> int | None:
        """Replicas by the stable window, or by the panic window."""
        self._start(now, view)
        self._samples.append((now, view.in_flight))
        self._samples = [one for one in self._samples if now - one[0] < self.rules.stable_window_s]
        ready = max(view.ready, 1)
        stable = self._wanted(now, self.rules.stable_window_s)
        panic = self._wanted(now, self.rules.panic_window_s)
        self._feel(now, panic / ready)
        wanted = self._limited(stable, ready)
        if self._panicked_at is not None:
            wanted = max(wanted, self._limited(panic, ready), self._most_in_panic)
            self._most_in_panic = wanted
        return view.bounded(wanted)

    def _start(self, now: float, view: ServerView) -> None:
        if not self._started and view.ready > 1:
            # Without history nothing shrinks: it begins in panic, at the present scale.
            self._panicked_at, self._most_in_panic = now, view.ready
        self._started = True

    def _wanted(self, now: float, window_s: float) -> int:
        values = [value for at, value in self._samples if now - at < window_s]
        return math.ceil(sum(values) / len(values) / self.target - 1e-9)

    def _feel(self, now: float, excess: float) -> None:
        if excess >= self.rules.panic_threshold:
            self._panicked_at = now
        elif self._panicked_at is not None and self._calm_for_s(now) > self.rules.stable_window_s:
            self._panicked_at, self._most_in_panic = None, 0

    def _calm_for_s(self, now: float) -> float:
        return 0.0 if self._panicked_at is None else now - self._panicked_at

    def _limited(self, wanted: int, ready: int) -> int:
        least = math.floor(ready / self.rules.max_down_rate)
        most = math.ceil(ready * self.rules.max_up_rate)
        return min(max(wanted, least), most)
