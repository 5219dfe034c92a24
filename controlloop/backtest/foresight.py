"""What may be asked of one who knows the future: the cheapest plan with so many changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.backtest.view import ServerView


def needs(rates_rps: FloatArray, per_replica_rps: float, ahead: int) -> IntArray:
    """Replicas that each period's load, and that of the `ahead` periods after it, asks for.

    Args:
        rates_rps: requests/s that arrive, period by period: (periods,).
        per_replica_rps: what one replica serves within its objectives.
        ahead: periods that a replica started now serves no request.

    Returns:
        (periods,), at least 1 each.

    """
    own = np.maximum(np.ceil(rates_rps / per_replica_rps - 1e-9), 1).astype(np.int64)
    padded = np.concatenate([own, np.full(ahead, own[-1])])
    windows = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1)
    return np.asarray(windows.max(axis=1), dtype=np.int64)


def cheapest_plan(need: IntArray, changes: int) -> IntArray:
    """The plan of least sum that never is below `need` and changes at most `changes` times.

    A shortest path over periods: a stretch between two changes runs at the greatest need in it.

    Args:
        need: replicas, period by period: (periods,).
        changes: how often the plan may change, >= 0.

    Returns:
        Replicas, period by period: (periods,).

    """
    runs = _runs(need)
    starts = np.array([start for start, _, _ in runs] + [len(need)])
    peaks = np.array([peak for _, _, peak in runs])
    count = len(runs)
    # best[j]: least sum of the first j runs with the stretches so far; from_[k][j]: where the
    # last of k + 1 stretches began.
    cost = _stretch_costs(peaks, starts)
    best = cost[0].copy()
    from_ = [np.zeros(count + 1, dtype=np.int64)]
    for _ in range(min(changes, count - 1)):
        with_one_more = best[:, None] + cost
        begin = np.argmin(with_one_more, axis=0)
        after = with_one_more[begin, np.arange(count + 1)]
        better = after < best
        from_.append(np.where(better, begin, -1))
        if not np.any(better):
            break
        best = np.minimum(best, after)
    return _traced(from_, starts, peaks, len(need))


@dataclass(frozen=True, slots=True, eq=False)
class Clairvoyant:
    """Follows a plan: an `Autoscaler` that was told everything beforehand."""

    plan: IntArray
    period_s: float

    def decide(self, now: float, view: ServerView) -> int | None:
        """What the plan says for the period that begins `now`."""
        period = min(math.floor(now / self.period_s + 1e-9), len(self.plan) - 1)
        return view.bounded(int(self.plan[period]))


def _runs(need: IntArray) -> list[tuple[int, int, int]]:
    """Stretches of equal need: (start, end, need)."""
    edges = [0, *(np.flatnonzero(np.diff(need)) + 1).tolist(), len(need)]
    return [(start, end, int(need[start])) for start, end in pairwise(edges)]


def _stretch_costs(peaks: IntArray, starts: IntArray) -> FloatArray:
    """Sum of a stretch of runs i..j-1 at its greatest need: (runs + 1, runs + 1)."""
    count = len(peaks)
    cost = np.full((count + 1, count + 1), np.inf)
    for begin in range(count):
        highest = np.maximum.accumulate(peaks[begin:])
        cost[begin, begin + 1 :] = highest * (starts[begin + 1 :] - starts[begin])
    cost[0, 0] = 0.0
    return cost


def _traced(from_: list[IntArray], starts: IntArray, peaks: IntArray, periods: int) -> IntArray:
    plan = np.zeros(periods, dtype=np.int64)
    end, level = len(peaks), len(from_) - 1
    while end > 0:
        while level > 0 and from_[level][end] < 0:
            level -= 1
        begin = int(from_[level][end])
        plan[starts[begin] : starts[end]] = peaks[begin:end].max()
        end, level = begin, max(level - 1, 0)
    return plan
