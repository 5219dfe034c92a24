from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.backtest.hpa import (
    Behavior,
    HpaRules,
    PodReadings,
    PodsHpa,
    RateHpa,
    ScalingPolicy,
    Unit,
    from_pods,
    from_total,
)
from controlloop.backtest.view import ServerView

ViewMaker = Callable[..., ServerView]


@pytest.mark.parametrize(
    ("mean", "wanted"),
    [
        (200.0, 10),  # "200m against 100m doubles"
        (50.0, 3),  # "50m halves": 2.5 of 5, rounded up
        (109.0, 5),  # within the tolerance of 0.1
        (91.0, 5),
        (111.0, 6),
        (89.0, 5),  # beyond the tolerance, but rounded up to the same
    ],
)
def test_replicas_follow_the_ratio_of_metric_and_target(mean: float, wanted: int) -> None:
    assert from_pods(5, PodReadings(mean, 5), 100.0, 0.1) == wanted


def test_a_missing_pod_counts_as_idle_when_growing_and_as_at_target_when_shrinking() -> None:
    # 2 of 3 at 180 ask for 4; with the third at 0 the ratio is 1.2: 3.6 pods.
    assert from_pods(3, PodReadings(180.0, 2, missing=1), 100.0, 0.1) == 4
    # 160: the ratio falls to 1.07, within the tolerance.
    assert from_pods(3, PodReadings(160.0, 2, missing=1), 100.0, 0.1) == 3
    # 3 of 4 at 20 ask for less; the fourth counts as 100: 1.6 pods.
    assert from_pods(4, PodReadings(20.0, 3, missing=1), 100.0, 0.1) == 2


def test_a_pending_pod_damps_growth_and_not_shrinking() -> None:
    assert from_pods(4, PodReadings(240.0, 2, pending=2), 100.0, 0.1) == 5
    assert from_pods(4, PodReadings(190.0, 2, pending=2), 100.0, 0.1) == 4
    assert from_pods(4, PodReadings(25.0, 2, pending=2), 100.0, 0.1) == 1


def test_a_ratio_that_missing_pods_turn_round_changes_nothing() -> None:
    assert from_pods(4, PodReadings(130.0, 2, missing=2), 100.0, 0.1) == 4


def test_without_any_reading_nothing_is_decided() -> None:
    assert from_pods(3, PodReadings(0.0, 0, missing=3), 100.0, 0.1) is None


def test_an_external_metric_is_split_over_the_replicas() -> None:
    assert from_total(2, 45.0, 10.0, 0.1) == 5
    assert from_total(4, 42.0, 10.0, 0.1) == 4
    assert from_total(4, 0.0, 10.0, 0.1) == 0


def test_growth_is_four_pods_or_double_in_fifteen_seconds() -> None:
    behavior = Behavior()
    replicas = [1]
    for sync in range(4):
        replicas.append(behavior.steady(15.0 * sync, replicas[-1], 100))
    assert replicas == [1, 5, 10, 20, 40]


def test_shrinking_waits_for_the_highest_of_five_minutes() -> None:
    behavior = Behavior()
    current = 10
    course = {}
    for sync in range(40):
        now = 15.0 * sync
        current = behavior.steady(now, current, 7 if now == 120.0 else 2)
        course[now] = current
    # The first recommendation is what ran; it leaves the window after 300 s, the 7 after 420.
    assert course[300.0] == 10
    assert course[315.0] == 7
    assert course[420.0] == 7
    assert course[435.0] == 2


def test_the_documented_example_of_policies_takes_away_in_steps() -> None:
    policies = (ScalingPolicy(Unit.PODS, 4, 60.0), ScalingPolicy(Unit.PERCENT, 10, 60.0))
    behavior = Behavior(HpaRules(down_window_s=0.0, down=policies))
    replicas = [80]
    for sync in range(12):
        replicas.append(behavior.steady(60.0 * sync, replicas[-1], 10))
    # A tenth, rounded up, while that is more than 4; then 4 at a time.
    assert replicas[:5] == [80, 72, 64, 57, 51]
    assert replicas[-4:] == [28, 24, 20, 16]


def test_changes_within_the_period_count_against_the_policy() -> None:
    behavior = Behavior(HpaRules(up=(ScalingPolicy(Unit.PODS, 4, 60.0),)))
    assert behavior.steady(0.0, 2, 20) == 6
    assert behavior.steady(15.0, 6, 20) == 6
    assert behavior.steady(60.0, 6, 20) == 10


@given(
    wanted=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    start=st.integers(1, 30),
)
def test_what_is_asked_for_never_leaves_recommendations_and_present(
    wanted: list[int], start: int
) -> None:
    behavior, current = Behavior(), start
    for sync, each in enumerate(wanted):
        after = behavior.steady(15.0 * sync, current, each)
        assert min(current, each) <= after <= max(current, *wanted[: sync + 1])
        assert after <= max(2 * current, current + 4)
        current = after


def test_pods_hpa_counts_starting_replicas_as_missing(view: ViewMaker) -> None:
    autoscaler = PodsHpa(lambda one: one.in_flight, target=10.0)
    assert autoscaler.decide(0.0, view(2, in_flight=60.0)) == 6
    # Two ready at 30 each would ask for 6 of 2; the four that start damp it.
    growing = view(6, ready=2, starting=4, in_flight=60.0)
    assert autoscaler.decide(15.0, growing) == 6


def test_rate_hpa_measures_over_its_window(view: ViewMaker) -> None:
    autoscaler = RateHpa(target_rps=2.0, window_s=60.0)

    def at(now: float, arrived: float) -> int | None:
        seen: ServerView = view(2, arrived=arrived)
        return autoscaler.decide(now, seen)

    assert at(0.0, 0.0) is None
    assert at(15.0, 60.0) == 2  # 4 requests/s on two replicas
    assert at(30.0, 240.0) == 4  # 8 requests/s
    # The first sample has left the window: (720 - 60) / 60 = 11 requests/s.
    assert at(75.0, 720.0) == 6
