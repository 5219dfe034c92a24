"""Arrivals by conservation of flow: what came is what left and what is there more than before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.collector.series import Series


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
    """Counters added up on common times: `increase[i]` since time i-1; `reset[i]`: they fell."""

    increase: FloatArray
    reset: BoolArray


def count(counters: Sequence[Series], times: FloatArray) -> Counted:
    """What `counters` of one endpoint counted between `times` (n,), summed: arrays of n - 1.

    A counter that falls was reset: what it shows then came since. One that appears later than
    its siblings was made by its first event, so before it there were none.
    """
    increase = np.zeros(max(len(times) - 1, 0))
    reset = np.zeros(len(increase), dtype=np.bool_)
    for one in counters:
        if not len(one.times):
            continue
        values = _values_at(one, times)
        change = values[1:] - values[:-1]
        fell = change < 0
        increase += np.where(fell, values[1:], change)
        reset |= fell
    return Counted(increase, reset)


def _values_at(counter: Series, times: FloatArray) -> FloatArray:
    """What the counter showed last at each of `times`; 0 before its first sample."""
    if np.array_equal(counter.times, times):
        return counter.values
    at = np.searchsorted(counter.times, times, side="right") - 1
    return np.where(at >= 0, counter.values[np.maximum(at, 0)], 0.0)


def all_times(series: Sequence[Series]) -> FloatArray:
    """Every time at which any of `series` has a sample."""
    return reduce(_union, [one.times for one in series]) if series else np.empty(0)


def common_times(series: Sequence[Series]) -> FloatArray:
    """The times at which all of `series` have a sample."""
    return reduce(shared_times, [one.times for one in series]) if series else np.empty(0)


def shared_times(one: FloatArray, other: FloatArray) -> FloatArray:
    """The times in both of `one` and `other`."""
    same = one is other or np.array_equal(one, other)
    return one if same else np.intersect1d(one, other)


def total_at(gauges: Sequence[Series], times: FloatArray) -> FloatArray:
    """The sum of `gauges` at `times`, at each of which all of them have a sample."""
    total = np.zeros(len(times))
    for one in gauges:
        same = np.array_equal(one.times, times)
        total += one.values if same else one.values[np.searchsorted(one.times, times)]
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
    if not len(finished) or not all(len(one.times) for one in completions):
        return "no count of finished requests"
    gauges = (*running, *waiting)
    if not running or not waiting:
        return f"no count of {'waiting' if running else 'running'} requests"
    times = shared_times(common_times(gauges), finished)
    if len(times) < 2:
        return "no sample in the window" if not len(times) else "only one sample in the window"
    in_service = total_at(running, times)
    inside = in_service + total_at(waiting, times)
    done, turned_away = count(completions, times), count(rejections, times)
    reset = done.reset | turned_away.reset
    change = np.where(reset, inside[1:], np.diff(inside))
    arrived = done.increase + turned_away.increase + change
    # A gauge may lag its counter by what one step of the engine finishes: no more than it serves.
    lag = np.maximum(in_service[:-1], 1.0)
    vanished = ~reset & (arrived < -lag)
    left_more_than_came = -float(arrived.sum())
    lost = -float(arrived[vanished].sum())
    if left_more_than_came > lag[0]:
        lost = max(lost, left_more_than_came)
    return Flow(
        first=float(times[0]),
        last=float(times[-1]),
        arrived=max(float(arrived[~vanished].sum()), 0.0),
        completed=float(done.increase.sum()),
        lost=lost,
        restarted=bool(reset.any()),
        longest_gap_s=float(np.diff(times).max()),
        still=bool((in_service > 0).all() and not np.diff(inside).any() and not arrived.any()),
    )


def named(endpoint: Sequence[Series], names: Sequence[str]) -> tuple[Series, ...]:
    """The series of the first of `names` of which the endpoint has any sample."""
    for name in names:
        found = tuple(one for one in endpoint if one.name == name)
        if any(len(one.times) for one in found):
            return found
    return ()


def _union(one: FloatArray, other: FloatArray) -> FloatArray:
    return one if np.array_equal(one, other) else np.union1d(one, other)
