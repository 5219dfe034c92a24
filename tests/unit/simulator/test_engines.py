"""Engines to the millisecond: iterations, chunks, queue, preemption, routing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.simulator.engine.layout import Router
from controlloop.simulator.engine.server import Results, ServerEngines
from controlloop.simulator.engine.times import engine_numbers, noise_factors
from controlloop.simulator.workloads.requests import Requests

# 10 ms an iteration, 0.1 ms a computed token, nothing for reading.
TOKENS = ("iteration-time", (10.0, 0.1, 0.0))
# 10 ms an iteration and 1 ms a sequence; a prompt takes 50 ms and 0.1 ms a token and sequence.
BESIDE = ("state-dependent", (10.0, 1.0, 50.0, 0.1))


def engines(
    model: tuple[str, tuple[float, ...]],
    max_batch: int = 8,
    budget: int = 1000,
    kv_tokens: int | None = None,
    replicas: int = 1,
    router: Router = Router.ROUND_ROBIN,
) -> ServerEngines:
    numbers = engine_numbers(*model, max_batch, budget, kv_tokens)
    made = ServerEngines(numbers, noise_factors(0.0), router)
    for _ in range(replicas):
        made.add(0.0)
    return made


def run(made: ServerEngines, *asked: tuple[float, int, int]) -> Results:
    """Requests of (arrival in ms, input, output tokens), to the end."""
    times, inputs, outputs = zip(*asked, strict=True)
    requests = Requests(np.array(times) / 1000.0, np.array(inputs), np.array(outputs))
    made.advance(requests, 1000.0)
    return made.results()


def ttft_ms(results: Results) -> list[float]:
    return [round(value, 6) for value in results.ttft_ms.tolist()]


def done_ms(results: Results) -> list[float]:
    return [round(1000.0 * value, 6) for value in results.done_s.tolist()]


def test_an_iteration_costs_by_its_tokens_and_the_prompt_gives_the_first() -> None:
    results = run(engines(TOKENS), (5.0, 100, 3))
    # 10 + 10 ms for the prompt, then two iterations of one token.
    assert ttft_ms(results) == [20.0]
    assert done_ms(results) == [pytest.approx(5.0 + 20.0 + 2 * 10.1)]
    assert results.itl_ms.tolist() == [pytest.approx(10.1)]


def test_an_arrival_waits_for_the_iteration_under_way_and_delays_those_that_decode() -> None:
    results = run(engines(TOKENS), (0.0, 100, 4), (21.0, 200, 1))
    # Prompt to 20; decodes to 30.1; both to 30.1 + 10 + 0.1 * 201.
    assert ttft_ms(results) == [20.0, pytest.approx(60.2 - 21.0)]
    assert done_ms(results) == [pytest.approx(60.2 + 10.1), pytest.approx(60.2)]


def test_long_prompts_are_computed_in_chunks_of_the_budget() -> None:
    results = run(engines(TOKENS, budget=100), (0.0, 250, 1), (1.0, 30, 1))
    # 100, 100, then 50 and the 30 of the next in one: 20 + 20 + 18 ms.
    assert ttft_ms(results) == [58.0, 57.0]


def test_decoding_sequences_count_against_the_budget() -> None:
    results = run(engines(TOKENS, budget=100), (0.0, 50, 9), (1.0, 100, 1))
    # After 15 ms one decodes: 99 tokens of the prompt fit beside it, the last in the next.
    assert ttft_ms(results) == [15.0, pytest.approx(15.0 + 20.0 + 10.2 - 1.0)]


def test_requests_wait_for_a_place_in_their_order() -> None:
    results = run(engines(TOKENS, max_batch=1), (0.0, 0, 2), (1.0, 0, 2), (2.0, 0, 2))
    assert done_ms(results) == [pytest.approx(each) for each in (20.1, 40.2, 60.3)]


def test_without_room_in_the_cache_the_last_admitted_is_computed_anew() -> None:
    made = engines(TOKENS, kv_tokens=110)
    results = run(made, (0.0, 50, 20), (0.0, 50, 20))
    assert made.counts().preemptions == 1
    # The first is held up by one prompt beside it, and by nothing else.
    assert results.itl_ms[0] < (15.1 + 18 * 10.2) / 19
    # The second waits for the first to end, then computes prompt and answer so far again.
    assert results.done_s[1] > results.done_s[0] + 0.1
    assert results.ttft_ms[1] == pytest.approx(15.0 + 15.1)
    # Every gap is counted, the long one too.
    counts = made.counts()
    assert counts.gaps == 38
    spans = results.done_s - (results.arrival_s + results.ttft_ms / 1000.0)
    assert counts.gaps_s == pytest.approx(float(np.sum(spans)))


def test_a_prompt_that_never_fits_is_refused_and_holds_nobody_up() -> None:
    results = run(engines(TOKENS, kv_tokens=100), (0.0, 500, 5), (1.0, 50, 1))
    assert results.lost.tolist() == [True, False]
    assert np.isinf(results.ttft_ms[0])
    assert np.isfinite(results.ttft_ms[1])


def test_prompts_beside_iterations_take_their_own_time() -> None:
    results = run(engines(BESIDE), (0.0, 100, 3), (10.0, 200, 1))
    # 50 + 0.1 * 100 * 1, and 50 + 0.1 * 200 * 2 from its arrival.
    assert ttft_ms(results) == [60.0, 90.0]
    # Two iterations: with both in service 12 ms each.
    assert done_ms(results)[0] == pytest.approx(60.0 + 12.0 + 12.0)


def test_requests_of_one_token_leave_with_their_prompt() -> None:
    results = run(engines(BESIDE, max_batch=1), (0.0, 0, 1), (0.0, 0, 1), (0.0, 100, 1))
    assert done_ms(results) == [0.0, 0.0, 60.0]
    assert results.itl_ms.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("router", [Router.ROUND_ROBIN, Router.LEAST_LOADED])
def test_equals_get_requests_in_turn(router: Router) -> None:
    made = engines(TOKENS, replicas=3, router=router)
    run(made, *((float(each), 100, 50) for each in range(6)))
    assert [made.replica(row)[0].arrived for row in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("router", [Router.LEAST_LOADED, Router.POWER_OF_TWO])
def test_who_has_less_gets_more(router: Router) -> None:
    made = engines(TOKENS, replicas=2, router=router)
    # The first replica is busy for long; the others' requests are short.
    run(made, (0.0, 100, 5000), *((100.0 + 50.0 * each, 10, 2) for each in range(100)))
    arrived = sorted(made.replica(row)[0].arrived for row in range(2))
    assert arrived == [1, 100]


@given(
    st.lists(
        st.tuples(st.floats(0.0, 500.0), st.integers(0, 300), st.integers(1, 40)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([TOKENS, BESIDE, ("mm1k", (10.0, 1.0, 50.0, 0.1))]),
    st.integers(1, 6),
    st.sampled_from([400, 1 << 40]),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_everything_is_answered_whole_and_nothing_is_left(
    asked: list[tuple[float, int, int]],
    model: tuple[str, tuple[float, ...]],
    max_batch: int,
    kv_tokens: int,
    replicas: int,
) -> None:
    made = engines(model, max_batch, 100, kv_tokens, replicas, Router.LEAST_LOADED)
    results = run(made, *sorted(asked))
    counts = made.counts()
    assert counts.completed == counts.arrived == len(asked)
    assert (made.running, made.waiting) == (0, 0)
    assert np.all(np.isfinite(results.done_s))
    assert np.all(results.ttft_ms >= 0)
    assert counts.input_tokens == sum(one[1] for one in asked)
    # No token comes sooner than an iteration after the one before; rounding to the nearest
    # iteration may save half of one where prompts are computed beside them.
    several = results.output_tokens > 1
    assert np.all(results.itl_ms[several] >= 10.0 * (0.4 if model[0] != TOKENS[0] else 1.0))
    assert np.all(made._replicas["resident"] == 0)
    assert np.all(made._replicas["held"] == 0)
