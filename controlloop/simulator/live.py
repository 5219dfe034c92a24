"""A simulated fleet that keeps up with a clock, so that others can watch it from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controlloop.clock import Clock, Deadline, ManualClock
from controlloop.simulator.events import EventPlant, ReplicaMeter
from controlloop.simulator.simulation import ControlLoop

TICK_S = 0.1


@dataclass(slots=True)
class LiveFleet:
    """Advances a plant with the wall's clock, `speed` times as fast, and controls it meanwhile.

    Attributes:
        plant: the fleet; its steps should be no longer than a scrape may lag.
        loop: what controls it; None leaves it alone.
        clock: the loop's, at the plant's time.
        period_s: simulated seconds from one cycle to the next.
        speed: simulated seconds in a second.
        told: told of the plant's time after each cycle.

    """

    plant: EventPlant
    loop: ControlLoop | None
    clock: ManualClock
    period_s: float
    speed: float = 1.0
    told: Callable[[float], None] = lambda _: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> Mapping[str, ReplicaMeter]:
        """Every replica as it is now."""
        with self._lock:
            return self.plant.replicas()

    def run(self, wall: Clock, until_s: float, stop: threading.Event) -> None:
        """Keep up until the simulated time is `until_s`, or `stop` is set."""
        begun = wall.monotonic()
        due = self.period_s
        while not stop.is_set() and self.plant.time < until_s:
            now = min((wall.monotonic() - begun) * self.speed, until_s)
            while due <= now:
                self._advance(due)
                self._control(due)
                due += self.period_s
            self._advance(now)
            stop.wait(TICK_S)

    def _advance(self, time: float) -> None:
        with self._lock:
            self.plant.advance_to(time)
            self.plant.forget()

    def _control(self, time: float) -> None:
        self.clock.advance(time - self.clock.now())
        if self.loop is not None:
            with self._lock:
                self.loop.run_once(time, Deadline(self.clock, self.period_s))
        self.told(time)
