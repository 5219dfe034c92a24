"""What the policy `windows` is told; every limit has a value that turns it off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """The most that may be added, or taken away, within `period_s`.

    The greater of `replicas` and `share` of what ran before; both 0 is no limit.
    """

    replicas: int = 0
    share: float = 0.0
    period_s: float = 60.0

    def most(self, before: int) -> int | None:
        """Replicas that may come or go where `before` ran; None is any number."""
        if self.replicas <= 0 and self.share <= 0:
            return None
        return max(self.replicas, int(self.share * before), 1)


@dataclass(frozen=True, slots=True)
class Direction:
    """How slowly replicas go one way.

    Attributes:
        window_s: the change must have been asked for throughout so long; 0 is off.
        tolerance: relative deadband, see `WindowOptions`; 0 is off.
        steps: the most at a time.
        cooldown_s: none within so long of the change before; 0 is off.

    """

    window_s: float = 0.0
    tolerance: float = 0.0
    steps: Steps = Steps()
    cooldown_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Panic:
    """When a server is so short that it grows in spite of every window, limit and cooldown.

    Attributes:
        ratio: its load needs so many times what runs; 0 is off.
        waiting: so many requests wait per ready replica; 0 is off.
        utilization: requests wait and this share of the batches is in service; 0 is off.
        step_share: what is added, as a share of what runs and at least one replica, where the
            model holds that enough runs; 0 adds nothing.

    """

    ratio: float = 2.0
    waiting: float = 1.0
    utilization: float = 0.95
    step_share: float = 0.25


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """All of the policy's numbers.

    Attributes:
        up: the way up; its tolerance lets a load exceed what runs by that share.
        down: the way down; its tolerance is the share of what stays that must be to spare.
        startup_guard_s: replicas that start forbid a decrease, for so long at most; 0 is off.
        flap_reversals: changes of direction within `flap_window_s` from which on each one
            doubles the down window; 0 is off.
        flap_window_s: see there; the down window never grows beyond it.
        panic: the way that only adds.

    """

    up: Direction = Direction()
    down: Direction = Direction(window_s=300.0, tolerance=0.1)
    startup_guard_s: float = 900.0
    flap_reversals: int = 2
    flap_window_s: float = 3600.0
    panic: Panic = Panic()

    @property
    def memory_s(self) -> float:
        """How far back anything of this looks."""
        ways = (self.up, self.down)
        return max(
            self.flap_window_s if self.flap_reversals else 0.0,
            self.startup_guard_s,
            *(max(each.window_s, each.cooldown_s, each.steps.period_s) for each in ways),
        )
