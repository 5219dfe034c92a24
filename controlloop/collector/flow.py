"""Arrivals by conservation of flow: what came is what left and what is there more than before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from controlloop.collector.series import Endpoint, Samples, Series


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through one endpoint between its first and its last sample of the window.

    Attributes:
        first: time of the first sample that all of its gauges and counters share, seconds.
        last: time of the last such sample.
        arrived: requests that came in between.
        completed: requests that were finished in between.
        lost: requests that left without being counted: an engine that leaves aborted requests
            out of its counters shows fewer requests than before and no completion.
        restarted: whether a counter fell.
        longest_gap_s: longest time between two samples.
        still: whether requests were in service all the time and nothing at all changed.

    """

    first: float
    last: float
    arrived: float
    completed: float
    lost: float = 0.0
    restarted: bool = False
    longest_gap_s: float = 0.0
    still: bool = False

    @property
    def span_s(self) -> float:
        """The time between the two samples, seconds."""
        return self.last - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Counters added up on common times: `increase[i]` since time i; `reset[i]`: they fell."""

    increase: Sequence[float]
    reset: Sequence[bool]

    @property
    def total(self) -> float:
        """What was counted in all."""
        return sum(self.increase, 0.0)


def count(counters: Sequence[Series], times: Samples) -> Counted:
    """What `counters` of one endpoint counted between n `times`, summed: n - 1 numbers.

    A counter that falls was reset: what it shows then came since. One that appears later than
    its siblings was made by its first event, so before it there were none.
    """
    increase = [0.0] * max(len(times) - 1, 0)
    reset = [False] * len(increase)
    for one in counters:
        if not one.times:
            continue
        for at, (before, after) in enumerate(pairwise(_values_at(one, times))):
            if after < before:
                reset[at] = True
                increase[at] += after
            else:
                increase[at] += after - before
    return Counted(increase, reset)


def _values_at(counter: Series, times: Samples) -> Samples:
    """What the counter showed last at each of `times`; 0 before its first sample."""
    if counter.times == times:
        return counter.values
    return tuple(value_at(counter, time) for time in times)


def value_at(series: Series, time: float) -> float:
    """What a series showed last at `time`; 0 before its first sample."""
    if series.times and series.times[-1] <= time:
        return series.values[-1]
    at = bisect_right(series.times, time)
    return series.values[at - 1] if at else 0.0


def all_times(series: Sequence[Series]) -> Samples:
    """Every time at which any of `series` has a sample."""
    if not series:
        return ()
    first = series[0].times
    if all(one.times == first for one in series):
        return first
    return tuple(sorted({time for one in series for time in one.times}))


def common_times(series: Sequence[Series]) -> Samples:
    """The times at which all of `series` have a sample."""
    if not series:
        return ()
    times = series[0].times
    for one in series:
        times = shared_times(times, one.times)
    return times


def shared_times(one: Samples, other: Samples) -> Samples:
    """The times in both of `one` and `other`."""
    if one == other:
        return one
    there = set(other)
    return tuple(time for time in one if time in there)


def total_at(gauges: Sequence[Series], times: Samples) -> list[float]:
    """The sum of `gauges` at `times`, at each of which all of them have a sample."""
    total = [0.0] * len(times)
    for one in gauges:
        total = [sum_ + value for sum_, value in zip(total, _values_at(one, times), strict=True)]
    return total


def flow_of(
    completions: Sequence[Series],
    rejections: Sequence[Series],
    running: Sequence[Series],
    waiting: Sequence[Series],
) -> Flow | str:
    """The flow through one endpoint, or why there is none to see.

    Between two samples, arrivals = completions + rejections + change of (running + waiting).
    At a restart the requests inside are gone and everything counts from zero. Where more is
    gone than was in service and is counted nowhere, requests left the queue uncounted; what
    came meanwhile is unknown and at least 0.
    """
    finished = all_times(completions)
    if not finished or not all(one.times for one in completions):
        return "no count of finished requests"
    gauges = (*running, *waiting)
    if not running or not waiting:
        return f"no count of {'waiting' if running else 'running'} requests"
    times = shared_times(common_times(gauges), finished)
    if len(times) < 2:
        return "no sample in the window" if not times else "only one sample in the window"
    in_service = total_at(running, times)
    inside = [sum(each) for each in zip(in_service, total_at(waiting, times), strict=True)]
    done, turned_away = count(completions, times), count(rejections, times)
    came = left_uncounted = 0.0
    restarted, still = False, min(in_service) > 0
    left_more_than_came = 0.0
    for at, (before, after) in enumerate(pairwise(inside)):
        reset = done.reset[at] or turned_away.reset[at]
        change = after if reset else after - before
        arrived = done.increase[at] + turned_away.increase[at] + change
        restarted |= reset
        still &= after == before and arrived == 0
        left_more_than_came -= arrived
        # A gauge may lag its counter by what one step of the engine finishes: as much as it serves.
        if not reset and arrived < -max(in_service[at], 1.0):
            left_uncounted -= arrived
        else:
            came += arrived
    if left_more_than_came > max(in_service[0], 1.0):
        left_uncounted = max(left_uncounted, left_more_than_came)
    return Flow(
        first=times[0],
        last=times[-1],
        arrived=max(came, 0.0),
        completed=done.total,
        lost=left_uncounted,
        restarted=restarted,
        longest_gap_s=max(after - before for before, after in pairwise(times)),
        still=still,
    )


def named(endpoint: Endpoint, names: Sequence[str]) -> Sequence[Series]:
    """The series of the first of `names` of which the endpoint has any sample."""
    for name in names:
        found = endpoint.get(name, ())
        for one in found:
            if one.times:
                return found
    return ()
