from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from controlloop.composition.garbage import ALLOCATIONS, collect_garbage_rarely


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_a_cycle_of_many_objects_is_not_looked_through_as_they_are_made() -> None:
    collect_garbage_rarely()
    runs: list[str] = []
    gc.collect()

    def note(phase: str, info: dict[str, int]) -> None:
        runs.append(phase)

    gc.callbacks.append(note)
    try:
        made = [[number] for number in range(ALLOCATIONS // 2)]
    finally:
        gc.callbacks.remove(note)
    assert len(made) == ALLOCATIONS // 2
    assert not runs
