from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controlloop.queueing.segments import Segments

lengths_of_rows = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(lengths_of_rows)
def test_rows_follow_one_another(lengths: list[int]) -> None:
    segments = Segments.of(np.array(lengths))
    assert list(segments.position) == [i for length in lengths for i in range(length)]
    assert list(segments.rows) == [row for row, length in enumerate(lengths) for _ in range(length)]
    assert list(segments.spread(np.array(lengths) * 0.5)) == [
        length * 0.5 for length in lengths for _ in range(length)
    ]
    assert list(segments.position[segments.starts]) == [0] * len(lengths)
    assert list(segments.position[segments.lasts]) == [length - 1 for length in lengths]


@given(lengths_of_rows)
def test_rows_that_share_their_entries_are_no_longer_than_the_longest(lengths: list[int]) -> None:
    segments = Segments.shared(np.array(lengths))
    assert list(segments.position) == list(range(max(lengths)))
    assert list(segments.position[segments.lasts]) == [length - 1 for length in lengths]


@given(lengths_of_rows, st.data())
def test_taken_rows_keep_their_entries(lengths: list[int], data: st.DataObject) -> None:
    segments = Segments.of(np.array(lengths))
    places = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    taken = segments.take(np.array(places))
    assert list(taken.starts) == [segments.starts[place] for place in places]
    assert list(taken.lasts) == [segments.lasts[place] for place in places]


def test_no_rows_are_no_error() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert len(Segments.of(none).position) == len(Segments.shared(none).position) == 0
