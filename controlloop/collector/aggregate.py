"""From pods to their server: sums that silent pods do not shrink, means weighted by traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlloop.api.readings import Missing, Present, Reading, Stale
from controlloop.collector.census import Member
from controlloop.collector.means import Tally

NO_TRAFFIC = "no request gave a value within the window"


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is looked at: the `length_s` seconds that end at `now`."""

    now: float
    length_s: float
    stale_after_s: float

    def age_s(self, time: float) -> float:
        """The age of a sample, seconds."""
        return self.now - time

    def is_fresh(self, time: float) -> bool:
        """Whether a sample is young enough to act on."""
        return self.age_s(time) <= self.stale_after_s


@dataclass(frozen=True, slots=True)
class Share:
    """What one pod adds to a sum, and the time of its newest sample."""

    member: Member
    value: float
    last: float


def summed(
    shares: Sequence[Share],
    members: Sequence[Member],
    window: Window,
    why: str,
    extra: float = 0.0,
) -> Reading:
    """The sum over the pods of a server.

    Pods that should report and do not are taken to carry what the others carry, each for the
    time within the window in which it can have carried anything.

    Args:
        shares: what the pods with a reading give.
        members: all pods of the server.
        window: what counts as fresh.
        why: the reason where no pod has a reading.
        extra: added to the sum as it is: what pods carried that are gone.

    """
    if not shares:
        return Missing(why)
    fresh = [share for share in shares if window.is_fresh(share.last)]
    used = fresh or shares
    seen_s = sum(share.member.exposure_s for share in used)
    heard = {share.member.key for share in used}
    silent_s = sum(one.exposure_s for one in members if one.counted and one.key not in heard)
    total = sum(share.value for share in used) * (1.0 + silent_s / seen_s) + extra
    if fresh:
        return Present(total, max(window.age_s(share.last) for share in fresh))
    return Stale(total, min(window.age_s(share.last) for share in shares))


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and whether it had to reach back beyond the window, to the engines' start."""

    reading: Reading
    since_start: bool = False


def averaged(tallies: Sequence[Tally], window: Window, why: str, *, reach_back: bool) -> Mean:
    """The mean over the pods of a server, each weighing as much as its traffic.

    Args:
        tallies: of the pods with a reading; the others count in neither sum.
        window: what counts as fresh.
        why: the reason where no pod has a reading.
        reach_back: where the window had no traffic, take the mean since the engines' start.

    """
    if not tallies:
        return Mean(Missing(why))
    fresh = [tally for tally in tallies if window.is_fresh(tally.last)]
    used = fresh or tallies
    ages_s = [window.age_s(tally.last) for tally in used]
    age_s = max(ages_s) if fresh else min(ages_s)
    kind = Present if fresh else Stale
    count = sum(tally.count for tally in used)
    if count > 0:
        return Mean(kind(sum(tally.total for tally in used) / count, age_s))
    ever = sum(tally.count_since_start for tally in used)
    if reach_back and ever > 0:
        total = sum(tally.total_since_start for tally in used)
        return Mean(kind(total / ever, age_s), since_start=True)
    return Mean(Missing(NO_TRAFFIC))
