"""What is remembered of one server: what its load needed, and how its replicas changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from controlloop.api.observation import Workload

Moment = tuple[float, float]
"""A time, and a number at that time."""


@dataclass(frozen=True, slots=True)
class Track:
    """One server on one accelerator and batch.

    Attributes:
        place: accelerator and batch; elsewhere a replica is another amount of work.
        since: since when its needs are known without a gap.
        looked_at: when it was last looked at.
        replicas: what its spec asked for then.
        highs: needs that no later one exceeds, so times ascend and needs fall.
        lows: needs that no later one falls short of.
        changes: (time, replicas added or, negative, taken away), oldest first, by whomever.

    Times in seconds since the epoch, needs in replicas.
    """

    place: tuple[str, int]
    since: float
    looked_at: float
    replicas: int
    highs: tuple[Moment, ...] = ()
    lows: tuple[Moment, ...] = ()
    changes: tuple[Moment, ...] = ()

    def highest(self, now: float, window_s: float) -> float:
        """The greatest need within the window; 0 where none is known."""
        return max((need for time, need in self.highs if time >= now - window_s), default=0.0)

    def lowest(self, now: float, window_s: float) -> float:
        """The least need within the window; 0 where none is known."""
        return min((need for time, need in self.lows if time >= now - window_s), default=0.0)

    def moved(self, now: float, window_s: float) -> tuple[int, int]:
        """Replicas added and taken away within the window."""
        recent = [round(step) for time, step in self.changes if time > now - window_s]
        return sum(each for each in recent if each > 0), -sum(each for each in recent if each < 0)

    def last_change(self, *, up: bool | None = None) -> float | None:
        """When replicas last changed, in one direction or in any."""
        for time, step in reversed(self.changes):
            if up is None or (step > 0) is up:
                return time
        return None

    def reversals(self, now: float, window_s: float) -> int:
        """How often the direction of the changes turned within the window."""
        ways = [step > 0 for time, step in self.changes if time > now - window_s]
        return sum(one is not other for one, other in pairwise(ways))


def look(
    before: Track | None,
    workload: Workload,
    need: float | None,
    now: float,
    memory_s: float,
    gap_s: float,
) -> Track:
    """What is remembered after this look.

    Args:
        before: what was; None of a server that was never seen.
        workload: the server as it is.
        need: replicas that its load needs; None where that is not known.
        now: the time, seconds since the epoch. Where the clock was set back, all that seems to
            lie ahead counts as of now, so that nothing is forgotten early.
        memory_s: what is older is forgotten.
        gap_s: where no need was known for longer, the windows begin anew.

    """
    place = (workload.accelerator, workload.max_batch)
    if before is None or before.place != place:
        changes = () if before is None else before.changes
        before = Track(place, now, now, workload.replicas, changes=changes)
    step = workload.replicas - before.replicas
    # What this loop asked for was asked for then; of others' changes nothing better is known.
    changes = before.changes + (((before.looked_at, float(step)),) if step else ())
    kept = replace(
        before,
        since=min(before.since, now),
        looked_at=now,
        replicas=workload.replicas,
        changes=_recent(changes, now, memory_s),
    )
    if need is None:
        return replace(
            kept,
            highs=_recent(before.highs, now, memory_s),
            lows=_recent(before.lows, now, memory_s),
        )
    last_known = before.highs[-1][0] if before.highs else before.since
    return replace(
        kept,
        since=now if now - last_known > gap_s > 0 else kept.since,
        highs=_added(before.highs, need, now, memory_s, lambda old: old > need),
        lows=_added(before.lows, need, now, memory_s, lambda old: old < need),
    )


def _recent(moments: tuple[Moment, ...], now: float, memory_s: float) -> tuple[Moment, ...]:
    return tuple((min(time, now), what) for time, what in moments if time >= now - memory_s)


def _added(
    moments: tuple[Moment, ...],
    need: float,
    now: float,
    memory_s: float,
    stays: Callable[[float], bool],
) -> tuple[Moment, ...]:
    """What can still be the greatest, or least, of some window that ends later."""
    recent = _recent(moments, now, memory_s)
    return (*((time, old) for time, old in recent if stays(old)), (now, need))
