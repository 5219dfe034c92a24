"""What windows, tolerance, step limits, cooldowns and starting replicas forbid of one server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Workload
from controlloop.stability.options import Direction, WindowOptions
from controlloop.stability.track import Track


@dataclass(frozen=True, slots=True)
class Ask:
    """What one server's load asks for in this cycle.

    `need` is in replicas, whole or not; `replicas` what it comes to within the server's bounds.
    """

    workload: Workload
    track: Track
    need: float
    replicas: int
    now: float

    @property
    def current(self) -> int:
        """What its spec asks for."""
        return self.workload.replicas


def steadiness_holds(ask: Ask, options: WindowOptions, *, panic: bool) -> tuple[Hold, ...]:
    """The holds that stand against what the load asks for; panic lifts those of an increase."""
    if ask.replicas < ask.current:
        return tuple(_against_less(ask, options))
    if ask.replicas > ask.current and not panic:
        return tuple(_against_more(ask, options.up))
    return ()


def down_window_s(track: Track, options: WindowOptions, now: float) -> tuple[float, int]:
    """The down window in force, and the reversals that widened it; 0 where none did."""
    plain_s = options.down.window_s
    if options.flap_reversals <= 0 or plain_s <= 0:
        return plain_s, 0
    reversals = track.reversals(now, options.flap_window_s)
    doublings = reversals - options.flap_reversals + 1
    if doublings <= 0:
        return plain_s, 0
    # 2**40 times any window is longer than any flap window; more would only overflow.
    widened_s = min(plain_s * 2.0 ** min(doublings, 40), options.flap_window_s)
    return max(widened_s, plain_s), reversals


def _against_less(ask: Ask, options: WindowOptions) -> Iterator[Hold]:
    yield from _windows(ask, options)
    yield from _limits(ask, options.down, up=False)
    yield from _starting(ask, options.startup_guard_s)


def _windows(ask: Ask, options: WindowOptions) -> Iterator[Hold]:
    track, now, down = ask.track, ask.now, options.down
    window_s, reversals = down_window_s(track, options, now)
    known_s = now - track.since
    if known_s < down.window_s:
        detail = f"its load is known for {known_s:.0f} s of the {down.window_s:.0f} s down window"
        yield Hold(HoldReason.DOWN_WINDOW, Forbids.DECREASE, detail)
        return
    plain = _whole(track.highest(now, down.window_s))
    wide = _whole(track.highest(now, window_s))
    spare = _whole(track.highest(now, window_s) / (1.0 - down.tolerance))
    floor = ask.replicas
    if plain > floor:
        floor = min(plain, ask.current)
        detail = f"{plain} were needed within the last {down.window_s:.0f} s"
        yield Hold(HoldReason.DOWN_WINDOW, Forbids.DECREASE, detail, floor)
    if wide > floor:
        floor = min(wide, ask.current)
        detail = (
            f"{reversals} changes of direction within {options.flap_window_s:.0f} s widen the"
            f" down window to {window_s:.0f} s; {wide} were needed in it"
        )
        yield Hold(HoldReason.FLAPPING, Forbids.DECREASE, detail, floor)
    if min(spare, ask.current) > floor:
        detail = (
            f"{track.highest(now, window_s):.2f} replicas' work would leave {spare - 1} less"
            f" than {down.tolerance:.0%} to spare"
        )
        floor = min(spare, ask.current)
        yield Hold(HoldReason.TOLERANCE, Forbids.DECREASE, detail, floor)


def _starting(ask: Ask, guard_s: float) -> Iterator[Hold]:
    workload = ask.workload
    starting = workload.replicas - workload.ready_replicas
    grown_at = ask.track.last_change(up=True)
    if starting > 0 and grown_at is not None and ask.now - grown_at < guard_s:
        detail = (
            f"{starting} of {workload.replicas} replicas are not ready, the last were added"
            f" {ask.now - grown_at:.0f} s ago"
        )
        yield Hold(HoldReason.CHANGE_IN_PROGRESS, Forbids.DECREASE, detail)


def _against_more(ask: Ask, up: Direction) -> Iterator[Hold]:
    if up.window_s > 0:
        known = ask.now - ask.track.since >= up.window_s
        steadily = _whole(ask.track.lowest(ask.now, up.window_s)) if known else ask.current
        limit = max(steadily, ask.current)
        if limit < ask.replicas:
            detail = f"{ask.replicas} are not needed throughout the last {up.window_s:.0f} s"
            yield Hold(HoldReason.UP_WINDOW, Forbids.INCREASE, detail, limit)
    if ask.need <= ask.current * (1.0 + up.tolerance):
        detail = (
            f"{ask.need:.2f} replicas' work is within {up.tolerance:.0%} of what {ask.current} do"
        )
        yield Hold(HoldReason.TOLERANCE, Forbids.INCREASE, detail)
    yield from _limits(ask, up, up=True)


def _limits(ask: Ask, way: Direction, *, up: bool) -> Iterator[Hold]:
    """Step limit and cooldown of one direction."""
    forbids = Forbids.INCREASE if up else Forbids.DECREASE
    changed_at = ask.track.last_change(up=None)
    if changed_at is not None and ask.now - changed_at < way.cooldown_s:
        detail = f"changed {ask.now - changed_at:.0f} s ago, cooldown {way.cooldown_s:.0f} s"
        yield Hold(HoldReason.COOLDOWN, forbids, detail)
    added, taken = ask.track.moved(ask.now, way.steps.period_s)
    before = ask.current - added + taken
    most = way.steps.most(before)
    if most is None:
        return
    left = max(most - (added if up else taken), 0)
    limit = ask.current + left if up else ask.current - left
    if (limit < ask.replicas) if up else (limit > ask.replicas):
        detail = f"at most {most} of {before} within {way.steps.period_s:.0f} s"
        yield Hold(HoldReason.STEP_LIMIT, forbids, detail, limit)


def _whole(need: float) -> int:
    return math.ceil(need)
