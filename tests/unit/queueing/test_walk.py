"""Sums over states, whatever range their weights span."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.queueing.segments import Segments
from controlloop.queueing.service import Departures
from controlloop.queueing.walk import Sums, Walker

by_python, by_machine = Walker(states_by_python=1 << 60), Walker(states_by_python=0)

# Steps between weights: far below 1, far above, and back and forth within one chain.
steps = st.one_of(
    st.floats(0.05, 20.0), st.floats(1e-120, 1e-60), st.floats(1e60, 1e120), st.just(1.0)
)
chains = st.lists(st.lists(steps, min_size=1, max_size=40), min_size=1, max_size=5)


def walked(walker: Walker, rows: list[list[float]]) -> Sums:
    states = Segments.of(np.array([len(row) for row in rows]))
    none, ones = np.zeros(len(rows)), np.ones(len(rows))
    departures = Departures(none, ones, np.concatenate(rows))
    return walker(states, departures, ones, np.sqrt(states.position))


@given(chains)
def test_sums_are_those_of_exact_arithmetic(rows: list[list[float]]) -> None:
    found = walked(by_python, rows)
    for at, row in enumerate(rows):
        weights = [Fraction(1)]
        for step in row[:-1]:
            weights.append(weights[-1] * Fraction(step))
        total = sum(weights)
        shares = [float(weight / total) for weight in weights]
        assert found.position[at] / found.total[at] == pytest.approx(
            math.fsum(share * j for j, share in enumerate(shares)), rel=1e-12, abs=1e-140
        )
        assert found.level[at] / found.total[at] == pytest.approx(
            math.fsum(share * math.sqrt(j) for j, share in enumerate(shares)), rel=1e-12, abs=1e-140
        )
        assert found.product[at] / found.total[at] == pytest.approx(
            math.fsum(share * j * math.sqrt(j) for j, share in enumerate(shares)),
            rel=1e-12,
            abs=1e-140,
        )
        last = weights[-1] / total
        exact = math.log(last.numerator) - math.log(last.denominator)
        assert found.log_last[at] == pytest.approx(exact, rel=1e-12, abs=1e-12)


@given(chains)
def test_machine_code_finds_the_same_to_the_last_bit(rows: list[list[float]]) -> None:
    one, other = walked(by_python, rows), walked(by_machine, rows)
    for name in ("total", "position", "level", "product", "log_last"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@given(chains)
def test_a_chain_does_not_depend_on_those_beside_it(rows: list[list[float]]) -> None:
    together = walked(by_python, rows)
    for at, row in enumerate(rows):
        alone = walked(by_python, [row])
        assert alone.product[0] == together.product[at]
        assert alone.log_last[0] == together.log_last[at]


def test_a_rate_that_is_no_number_gives_none() -> None:
    states = Segments.shared(np.array([5]))
    departures = Departures(np.ones(1), np.ones(1), np.ones(5))
    sums = by_python(states, departures, np.array([np.nan]), states.position)
    assert np.isnan(sums.level).all()


def test_machine_code_is_made_once_enough_has_been_walked() -> None:
    walker = Walker(states_by_python=25)
    rows = [[1.0] * 10]
    walked(walker, rows)
    walked(walker, rows)
    assert walker.compiled is None
    walked(walker, rows)
    assert walker.compiled is not None
