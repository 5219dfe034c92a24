from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.collector.flow import Flow, flow_of
from controlloop.collector.series import Series

TIMES = tuple(5.0 * place for place in range(12))


def series(values: list[float], times: tuple[float, ...] | None = None, **labels: str) -> Series:
    at = TIMES[: len(values)] if times is None else times
    return Series(labels, at, tuple(map(float, values)))


def flow(
    completed: list[float],
    running: list[float],
    waiting: list[float] | None = None,
    rejected: list[float] | None = None,
) -> Flow:
    found = flow_of(
        [series(completed)],
        [] if rejected is None else [series(rejected)],
        [series(running)],
        [series(waiting or [0.0] * len(running))],
    )
    assert isinstance(found, Flow)
    return found


def test_overload_shows_in_arrivals_where_completions_stay_flat() -> None:
    seen = flow([100, 134, 168], running=[16, 16, 16], waiting=[0, 160, 320])
    assert seen.completed == 68
    assert seen.arrived == 68 + 320
    assert seen.span_s == 10.0


def test_a_backlog_that_drains_is_no_arrival() -> None:
    assert flow([0, 30, 60], running=[16, 16, 16], waiting=[100, 70, 40]).arrived == 0


def test_requests_that_were_turned_away_arrived() -> None:
    assert flow([0, 30], running=[16, 16], rejected=[5, 45]).arrived == 70


def test_every_reason_for_which_a_request_ends_counts() -> None:
    found = flow_of(
        [series([0, 10], reason="stop"), series([0, 4], reason="abort")],
        [],
        [series([0, 0])],
        [series([0, 0])],
    )
    assert isinstance(found, Flow)
    assert found.completed == 14


def test_a_reason_that_first_appears_within_the_window_counts_from_zero() -> None:
    late = series([3, 5], times=TIMES[1:3], reason="abort")
    found = flow_of(
        [series([0, 10, 20], reason="stop"), late],
        [],
        [series([0, 0, 0])],
        [series([0, 0, 0])],
    )
    assert isinstance(found, Flow)
    assert found.completed == 25


def test_a_counter_reset_neither_loses_nor_invents_arrivals() -> None:
    # 10 came before the restart (4 of them vanished inside), 9 after it (2 of them still inside).
    seen = flow([100, 106, 0, 7], running=[0, 4, 0, 2])
    assert seen.restarted
    assert seen.arrived == 10 + 9
    assert seen.completed == 6 + 7


def test_requests_that_vanish_from_the_queue_are_not_negative_arrivals() -> None:
    seen = flow([0, 30, 60, 90], running=[16] * 4, waiting=[500, 500, 0, 0])
    assert seen.lost == 470
    assert seen.arrived == 60


def test_running_requests_that_vanish_bit_by_bit_are_noticed() -> None:
    seen = flow([0, 0, 0, 0], running=[12, 8, 4, 0], waiting=[6, 4, 2, 0])
    assert seen.arrived == 0
    assert seen.lost == 18


def test_a_gauge_that_lags_its_counter_by_one_step_is_no_loss() -> None:
    seen = flow([0, 16, 16, 32], running=[16, 16, 0, 16])
    assert seen.lost == 0
    assert seen.arrived == 32


def test_all_three_are_taken_at_the_same_two_samples() -> None:
    # The counter was asked for last: a scrape later than the gauges know of.
    found = flow_of([series([0, 10, 20, 30])], [], [series([5, 5, 5])], [series([0, 0, 0])])
    assert isinstance(found, Flow)
    assert (found.arrived, found.last) == (20, 10.0)


def test_the_longest_gap_between_samples_is_told() -> None:
    times = (0.0, 5.0, 50.0, 55.0)
    zeros = series([0, 0, 0, 0], times)
    found = flow_of([zeros], [], [zeros], [zeros])
    assert isinstance(found, Flow)
    assert found.longest_gap_s == 45.0


@pytest.mark.parametrize(
    ("counts", "running", "waiting", "why"),
    [
        ([], [[1.0, 1.0]], [[0.0, 0.0]], "no count of finished requests"),
        ([[1.0, 2.0]], [], [[0.0, 0.0]], "no count of running requests"),
        ([[1.0, 2.0]], [[1.0, 1.0]], [], "no count of waiting requests"),
        ([[1.0]], [[1.0]], [[0.0]], "only one sample in the window"),
        ([[]], [[1.0]], [[0.0]], "no count of finished requests"),
        ([[1.0]], [[1.0], []], [[0.0]], "no sample in the window"),
    ],
)
def test_what_cannot_be_seen_whole_has_no_flow(
    counts: list[list[float]], running: list[list[float]], waiting: list[list[float]], why: str
) -> None:
    found = flow_of(
        [series(one) for one in counts],
        [],
        [series(one) for one in running],
        [series(one) for one in waiting],
    )
    assert found == why


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=11
    )
)
def test_conservation_is_exact_whatever_the_engine_does(
    steps: list[tuple[int, float, float]],
) -> None:
    """Arrivals, then some start, then some finish; nothing vanishes: the count is exact."""
    waiting, running, done = [0], [0], [0]
    for arrivals, start, finish in steps:
        queue = waiting[-1] + arrivals
        started = round(start * queue)
        finished = round(finish * (running[-1] + started))
        waiting.append(queue - started)
        running.append(running[-1] + started - finished)
        done.append(done[-1] + finished)
    seen = flow([float(n) for n in done], [float(n) for n in running], [float(n) for n in waiting])
    assert seen.arrived == sum(arrivals for arrivals, _, _ in steps)
    assert seen.lost == 0
