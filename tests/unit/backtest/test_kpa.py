from __future__ import annotations

from collections.abc import Callable

from controlloop.backtest.kpa import Kpa
from controlloop.backtest.view import ServerView

ViewMaker = Callable[..., ServerView]


def settle(kpa: Kpa, view: ViewMaker, replicas: int, in_flight: float, until: float) -> list[int]:
    """Ticks of 2 s on a fixed fleet."""
    seen = view(replicas, in_flight=in_flight)
    decided = [kpa.decide(2.0 * tick, seen) for tick in range(int(until / 2))]
    return [one for one in decided if one is not None]


def test_the_documented_example_of_concurrency(view: ViewMaker) -> None:
    # A hundred in flight, a limit of 10 at 70 %: 100 / 7 rounded up is 15 pods.
    kpa = Kpa(target=7.0)
    assert kpa.decide(0.0, view(15, in_flight=100.0)) == 15
    assert kpa.decide(2.0, view(14, in_flight=100.0)) == 15


def test_it_begins_in_panic_so_that_nothing_shrinks_without_history(view: ViewMaker) -> None:
    kpa = Kpa(target=10.0)
    decided = settle(kpa, view, replicas=4, in_flight=5.0, until=80.0)
    assert decided[:31] == [4] * 31
    # Then at most half at once.
    assert decided[-1] == 2


def test_a_burst_panics_by_the_short_window_and_never_shrinks_in_it(view: ViewMaker) -> None:
    kpa = Kpa(target=10.0)
    calm = settle(kpa, view, replicas=1, in_flight=8.0, until=60.0)
    assert calm[-1] == 1
    assert kpa.decide(60.0, view(1, in_flight=90.0)) == 4  # (8 + 8 + 90) / 3 over six seconds
    assert kpa.decide(62.0, view(1, in_flight=90.0)) == 7
    assert kpa.decide(64.0, view(1, in_flight=90.0)) == 9
    # The burst is over at once; panic keeps the nine for a stable window.
    after = [kpa.decide(66.0 + 2 * tick, view(9, in_flight=1.0)) for tick in range(36)]
    assert after[:29] == [9] * 29
    assert after[-1] == 4


def test_growth_below_the_threshold_follows_the_stable_window(view: ViewMaker) -> None:
    kpa = Kpa(target=10.0)
    settle(kpa, view, replicas=4, in_flight=36.0, until=80.0)
    # 60 in flight ask for 6 of 4, less than twice: the mean of a minute moves slowly.
    decided = [kpa.decide(80.0 + 2 * tick, view(4, in_flight=60.0)) for tick in range(30)]
    assert decided[0] == 4
    assert decided[10] == 5
    assert decided[-1] == 6


def test_the_state_of_calm_returns(view: ViewMaker) -> None:
    kpa = Kpa(target=10.0)
    settle(kpa, view, replicas=1, in_flight=40.0, until=10.0)
    for tick in range(60):
        last = kpa.decide(10.0 + 2 * tick, view(2, in_flight=12.0))
    assert last == 2
