"""Where a server might go: what memory holds, what its owner allows, what runs first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.system import Load, PerfParameters
from controlloop.stability.choosing import BATCHES, Spot, choices_of, most_batch

SERVER = Workload(WorkloadRef("ns", "chat"), "chat", "m", "Free", "A100", 48, 3)
PERF = [
    PerfParameters("m", name, (1.0,) * 4, most, 256) for name, most in (("A100", 64), ("L4", 24))
]
LOAD = Load(1.0, 100.0, 256.0)
NAMES = frozenset({"A100", "L4"})


def choices(server: Workload = SERVER, wished: Spot | None = None, batches: bool = True) -> object:
    return choices_of(server, LOAD, PERF, NAMES, wished, batches=batches)


def test_what_runs_is_first_and_what_was_wished_for_next() -> None:
    assert choices() == {"A100": (48, 8, 16, 24, 32, 64), "L4": (8, 16, 24)}
    assert choices(wished=Spot("L4", 16)) == {"A100": (48, 8, 16, 24, 32, 64), "L4": (16, 8, 24)}


def test_an_owner_may_keep_accelerator_or_batch_or_both() -> None:
    assert choices(replace(SERVER, keep_accelerator=True)) == {"A100": (48, 8, 16, 24, 32, 64)}
    assert choices(replace(SERVER, keep_batch=True)) == {"A100": (48,)}
    assert choices(batches=False) == {"A100": (48,)}
    assert choices(replace(SERVER, max_batch=24), batches=False) == {"A100": (24,), "L4": (24,)}


def test_a_server_that_does_not_say_its_batch_keeps_it() -> None:
    assert choices(replace(SERVER, max_batch=0)) == {"A100": (0,), "L4": (0,)}


def test_longer_answers_leave_room_for_fewer_requests() -> None:
    assert most_batch(PERF[0], Load(1.0, 9.0, 512.0)) == 32
    assert most_batch(PERF[0], Load()) == 64


@given(tokens=st.floats(1.0, 1e5), most=st.integers(1, 2048), at=st.integers(1, 8192))
def test_no_batch_is_chosen_that_memory_does_not_hold(tokens: float, most: int, at: int) -> None:
    perf = replace(PERF[0], max_batch=most, at_tokens=at)
    found = choices_of(SERVER, Load(1.0, 1.0, tokens), [perf], NAMES, None, batches=True)
    for batch in found["A100"][1:]:
        assert batch in BATCHES
        assert batch * tokens <= most * at * (1 + 1e-9)
