from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.queueing.segments import Segments

rows_of_numbers = st.lists(
    st.lists(st.floats(-20, 20), min_size=1, max_size=30), min_size=1, max_size=12
)


def flat(rows: list[list[float]]) -> tuple[Segments, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return Segments.of(np.array([len(row) for row in rows])), np.concatenate(rows)


@given(rows_of_numbers)
def test_each_row_is_worked_on_by_itself(rows: list[list[float]]) -> None:
    segments, entries = flat(rows)
    assert segments.total(entries) == pytest.approx([math.fsum(row) for row in rows], abs=1e-12)
    assert list(segments.greatest(entries)) == [max(row) for row in rows]
    assert list(segments.last(entries)) == [row[-1] for row in rows]
    assert list(segments.position) == [i for row in rows for i in range(len(row))]
    before = [math.fsum(row[:i]) for row in rows for i in range(len(row))]
    assert segments.total_before(entries) == pytest.approx(before, abs=1e-12)


@given(rows_of_numbers, st.data())
def test_taken_rows_keep_their_entries(rows: list[list[float]], data: st.DataObject) -> None:
    segments, entries = flat(rows)
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    taken, indices = segments.take(np.array(places))
    wanted, wanted_entries = flat([rows[place] for place in places])
    assert np.array_equal(entries[indices], wanted_entries)
    assert np.array_equal(taken.starts, wanted.starts)


def test_totals_do_not_depend_on_the_rows_before_to_the_last_bit() -> None:
    random = np.random.default_rng(7)
    rows = [list(random.uniform(-8, 8, length)) for length in (4096, 1, 4096, 37)]
    segments, entries = flat(rows)
    together = np.split(segments.total_before(entries), segments.starts[1:])
    for row, found in zip(rows, together, strict=True):
        alone, its_entries = flat([row])
        assert np.array_equal(found, alone.total_before(its_entries))
