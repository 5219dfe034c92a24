"""The algorithm of Kubernetes' HorizontalPodAutoscaler, as its documentation describes it.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/: the ratio of metric
and target with a tolerance, what missing and pending pods count as, stabilization windows, and
scaling policies. Defaults are those of `autoscaling/v2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from controlloop.backtest.view import ServerView

SYNC_PERIOD_S: Final = 15.0
# Ratios come from divisions: a hair above a whole number is that number.
_HAIR: Final = 1e-9


class Unit(StrEnum):
    """What a scaling policy counts in."""

    PODS = "pods"
    PERCENT = "percent"


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most `value` pods, or per cent of the replicas, of change in any `period_s`."""

    unit: Unit
    value: float
    period_s: float


@dataclass(frozen=True, slots=True)
class HpaRules:
    """The behaviour of an autoscaler; where several policies stand, the most change counts."""

    tolerance: float = 0.1
    up_window_s: float = 0.0
    down_window_s: float = 300.0
    up: tuple[ScalingPolicy, ...] = (
        ScalingPolicy(Unit.PERCENT, 100.0, 15.0),
        ScalingPolicy(Unit.PODS, 4.0, 15.0),
    )
    down: tuple[ScalingPolicy, ...] = (ScalingPolicy(Unit.PERCENT, 100.0, 15.0),)


@dataclass(frozen=True, slots=True)
class PodReadings:
    """A metric of a server's pods: the mean over those that report it, and the others.

    `missing` pods run and report nothing, `pending` ones are not running yet.
    """

    mean: float
    reporting: int
    missing: int = 0
    pending: int = 0


def from_pods(current: int, pods: PodReadings, target: float, tolerance: float) -> int | None:
    """Replicas that bring the mean of a per-pod metric to `target`.

    A missing pod counts as at the target when the others ask for fewer replicas, and as idle
    when they ask for more; a pending one as idle when they ask for more. Where that takes the
    ratio within the tolerance or to the other side of 1, nothing changes.

    Returns:
        None where no pod reports.

    """
    if pods.reporting <= 0:
        return None
    total = pods.mean * pods.reporting
    ratio = pods.mean / target
    idle = pods.pending if ratio > 1.0 else 0
    if not idle and not pods.missing:
        return current if _within(ratio, tolerance) else _up(ratio * pods.reporting)
    counted = pods.reporting + pods.missing + idle
    if ratio < 1.0:
        total += target * pods.missing
    damped = total / counted / target
    if _within(damped, tolerance) or (ratio < 1.0 < damped) or (damped < 1.0 < ratio):
        return current
    replicas = _up(damped * counted)
    contrary = (damped < 1.0 and replicas > current) or (damped > 1.0 and replicas < current)
    return current if contrary else replicas


def from_total(current: int, total: float, target: float, tolerance: float) -> int:
    """Replicas that bring a metric of the whole server, split over its pods, to `target` each."""
    if current > 0 and _within(total / (target * current), tolerance):
        return current
    return _up(total / target)


@dataclass(slots=True)
class Behavior:
    """Stabilization windows and scaling policies: from a recommendation to what is asked for."""

    rules: HpaRules = field(default_factory=HpaRules)
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def steady(self, now: float, current: int, wanted: int) -> int:
        """Replicas to ask for at `now`, given that `wanted` are recommended."""
        rules = self.rules
        if not self._recommended:
            # What runs when control begins is the first recommendation.
            self._recommended.append((now, current))
        self._recommended.append((now, wanted))
        keep_s = max(rules.up_window_s, rules.down_window_s)
        self._recommended = [one for one in self._recommended if now - one[0] <= keep_s]
        stable = self._stabilized(now, current, wanted)
        limited = self._limited(now, current, stable)
        if limited != current:
            self._changes.append((now, limited - current))
        return limited

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        rules = self.rules
        recent_up = [n for at, n in self._recommended if now - at <= rules.up_window_s]
        recent_down = [n for at, n in self._recommended if now - at <= rules.down_window_s]
        floor = min(recent_up, default=wanted) if rules.up_window_s > 0 else wanted
        ceiling = max(recent_down, default=wanted) if rules.down_window_s > 0 else wanted
        return min(max(current, floor), ceiling)

    def _limited(self, now: float, current: int, stable: int) -> int:
        self._changes = [one for one in self._changes if now - one[0] <= self._longest_s]
        if stable > current:
            most = max((self._most(now, current, one) for one in self.rules.up), default=stable)
            return min(stable, max(most, current))
        if stable < current:
            least = min((self._least(now, current, one) for one in self.rules.down), default=stable)
            return max(stable, min(least, current))
        return current

    @property
    def _longest_s(self) -> float:
        return max((one.period_s for one in self.rules.up + self.rules.down), default=0.0)

    def _most(self, now: float, current: int, policy: ScalingPolicy) -> int:
        start = self._at_start(now, current, policy)
        if policy.unit is Unit.PODS:
            return int(start + policy.value)
        return _up(start * (1.0 + policy.value / 100.0))

    def _least(self, now: float, current: int, policy: ScalingPolicy) -> int:
        start = self._at_start(now, current, policy)
        if policy.unit is Unit.PODS:
            return int(start - policy.value)
        return math.floor(start * (1.0 - policy.value / 100.0) + _HAIR)

    def _at_start(self, now: float, current: int, policy: ScalingPolicy) -> int:
        """Replicas at the start of the policy's period."""
        return current - sum(by for at, by in self._changes if now - at < policy.period_s)


@dataclass(slots=True)
class PodsHpa:
    """An autoscaler on a metric of the pods, such as requests in flight."""

    metric: Callable[[ServerView], float]
    target: float
    behavior: Behavior = field(default_factory=Behavior)

    def decide(self, now: float, view: ServerView) -> int | None:
        """Implements `Autoscaler`. Pods that start show no metrics yet."""
        mean = self.metric(view) / view.ready if view.ready else 0.0
        readings = PodReadings(mean, view.ready, view.starting, view.pending)
        tolerance = self.behavior.rules.tolerance
        wanted = from_pods(view.wanted, readings, self.target, tolerance)
        if wanted is None:
            return None
        return self.behavior.steady(now, view.wanted, view.bounded(wanted))


@dataclass(slots=True)
class RateHpa:
    """An autoscaler on requests/s, over a window, as an external metric: what KEDA sets up.

    `target_rps` is the threshold of one replica (`AverageValue`).
    """

    target_rps: float
    window_s: float = 60.0
    behavior: Behavior = field(default_factory=Behavior)
    _counts: list[tuple[float, float]] = field(default_factory=list)

    def decide(self, now: float, view: ServerView) -> int | None:
        """Implements `Autoscaler`. Without two samples there is no rate, and no decision."""
        self._counts.append((now, view.arrived))
        self._counts = [one for one in self._counts if now - one[0] <= self.window_s + _HAIR]
        (since, before), (_, after) = self._counts[0], self._counts[-1]
        if now <= since:
            return None
        rate_rps = (after - before) / (now - since)
        tolerance = self.behavior.rules.tolerance
        wanted = from_total(view.wanted, rate_rps, self.target_rps, tolerance)
        return self.behavior.steady(now, view.wanted, view.bounded(wanted))


def _within(ratio: float, tolerance: float) -> bool:
    return abs(ratio - 1.0) <= tolerance


def _up(value: float) -> int:
    return math.ceil(value - _HAIR)
