"""The simulated engines keep the laws of queueing where these are exact, and meet the models."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlloop.api.replicas import Replicas
from controlloop.queueing import models
from controlloop.simulator.engine.layout import Router
from controlloop.simulator.engine.server import Results, ServerEngines
from controlloop.simulator.engine.times import engine_numbers, noise_factors
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Steady

pytestmark = pytest.mark.slow

WITHIN = 0.05


class Course:
    """One course of engines at a constant rate; means are over those that came after a tenth."""

    def __init__(
        self,
        model: str,
        parameters: tuple[float, ...],
        batch: int,
        rate_rps: float,
        lengths: TokenLengths,
        requests: int = 60_000,
        noise: float = 0.0,
        replicas: int = 1,
        router: Router = Router.LEAST_LOADED,
    ) -> None:
        numbers = engine_numbers(model, parameters, batch)
        engines = ServerEngines(numbers, noise_factors(noise), router)
        for _ in range(replicas):
            engines.add(0.0)
        stream = Generated(Steady(rate_rps), lengths).open(np.random.SeedSequence(11))
        self.end_s = requests / rate_rps
        in_system = []
        for time in np.arange(1, 201) * self.end_s / 200:
            engines.advance(stream.take(time), time)
            in_system.append(engines.running + engines.waiting)
        self.engines = engines
        self.results: Results = engines.results()
        self.counted = np.isfinite(self.results.done_s)
        self.counted &= self.results.arrival_s > 0.1 * self.end_s
        self.mean_in_system = float(np.mean(in_system[20:]))

    @property
    def ttft_ms(self) -> float:
        return float(np.mean(self.results.ttft_ms[self.counted]))

    @property
    def itl_ms(self) -> float:
        return float(np.mean(self.results.itl_ms[self.counted]))

    @property
    def stay_ms(self) -> float:
        stay = 1000.0 * (self.results.done_s - self.results.arrival_s)
        return float(np.mean(stay[self.counted]))


def erlang_c(servers: int, offered: float) -> float:
    """The chance to wait in M/M/c (Kleinrock, Queueing Systems 1, section 3.5)."""
    terms = [offered**n / math.factorial(n) for n in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_place_and_geometric_answers_are_m_g_1(load: float) -> None:
    step_ms, mean_tokens = 10.0, 81.0
    # One token comes with the prompt, which costs nothing; the others are geometric from 0.
    service_ms = step_ms * (mean_tokens - 1)
    variance = step_ms**2 * mean_tokens * (mean_tokens - 1)
    rate = load / service_ms
    course = Course(
        "state-dependent",
        (step_ms, 0.0, 0.0, 0.0),
        1,
        1000 * rate,
        TokenLengths(0, mean_tokens, geometric_output=True),
    )
    # Pollaczek and Khinchine; within 2 % of M/M/1's load/(1 - load) services.
    wait_ms = rate * (service_ms**2 + variance) / (2 * (1 - load))
    assert wait_ms == pytest.approx(load / (1 - load) * service_ms, rel=0.02)
    assert course.ttft_ms == pytest.approx(wait_ms, rel=WITHIN)
    # Answers of one token have no gap and count as 0.
    assert course.itl_ms == pytest.approx(step_ms * (1 - 1 / mean_tokens), rel=0.01)
    assert course.stay_ms == pytest.approx(wait_ms + service_ms, rel=WITHIN)


@pytest.mark.parametrize(("places", "load"), [(4, 0.6), (4, 0.75), (16, 0.75)])
def test_as_many_places_as_servers_is_m_m_c(places: int, load: float) -> None:
    step_ms, mean_tokens = 10.0, 101.0
    service_ms = step_ms * (mean_tokens - 1)
    course = Course(
        "state-dependent",
        (step_ms, 0.0, 0.0, 0.0),
        places,
        1000 * load * places / service_ms,
        TokenLengths(0, mean_tokens, geometric_output=True),
        requests=400_000,
    )
    wait_ms = erlang_c(places, load * places) * service_ms / (places * (1 - load))
    assert course.ttft_ms == pytest.approx(wait_ms, rel=WITHIN)
    assert course.stay_ms == pytest.approx(wait_ms + service_ms, rel=WITHIN)


@pytest.mark.parametrize("spread", [0.0, 1.5])
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_iterations_that_cost_by_their_sequences_share_the_processor(
    spread: float, load: float
) -> None:
    each_ms, mean_tokens = 0.5, 201.0
    alone_ms = each_ms * (mean_tokens - 1)
    course = Course(
        "state-dependent",
        (0.0, each_ms, 0.0, 0.0),
        512,
        1000 * load / alone_ms,
        TokenLengths(0, mean_tokens, output_cv=spread),
    )
    # M/G/1-PS does not depend on the law of the lengths (Kleinrock, Queueing Systems 2, 4.4),
    # and everybody is slowed down alike.
    assert course.stay_ms == pytest.approx(alone_ms / (1 - load), rel=WITHIN)
    assert course.itl_ms == pytest.approx(each_ms / (1 - load), rel=WITHIN)


@pytest.mark.parametrize("router", list(Router))
def test_littles_law_holds_for_a_fleet(router: Router) -> None:
    rate = 40.0
    course = Course(
        "roofline",
        (15.0, 0.06, 1e-4, 0.02, 0.0, 0.0, 200_000.0),
        48,
        rate,
        TokenLengths(512, 128, 0.3, 0.3),
        replicas=4,
        noise=0.1,
        router=router,
    )
    assert course.mean_in_system == pytest.approx(rate * course.stay_ms / 1000, rel=WITHIN)


def test_noise_does_not_change_the_mean_iteration() -> None:
    factors = noise_factors(0.3)
    assert np.mean(factors) == pytest.approx(1.0)
    assert np.std(factors) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.75])
def test_the_state_dependent_model_predicts_its_engine(load: float) -> None:
    parameters = (19.0, 0.3, 60.0, 0.02)
    pair = models.replicas(32, 512, 128, [parameters])
    rate = load * _greatest_rps("state-dependent", pair)
    theory = models.analyze(pair, rate)
    lengths = TokenLengths(512, 128, geometric_output=True)
    course = Course("state-dependent", parameters, 32, rate, lengths)
    assert course.ttft_ms == pytest.approx(theory.ttft_ms[0], rel=WITHIN)
    assert course.itl_ms == pytest.approx(theory.itl_ms[0], rel=WITHIN)
    assert course.stay_ms == pytest.approx(theory.response_ms[0], rel=WITHIN)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_the_iteration_time_model_predicts_its_engine(load: float) -> None:
    parameters = (10.0, 0.02, 0.0002)
    pair = models.replicas(64, 512, 128, [parameters])
    rate = load * _greatest_rps("iteration-time", pair)
    theory = models.analyze(pair, rate, "iteration-time")
    course = Course("iteration-time", parameters, 64, rate, TokenLengths(512, 128, 0.0, 0.3))
    assert course.itl_ms == pytest.approx(theory.itl_ms[0], rel=WITHIN)
    assert course.stay_ms == pytest.approx(theory.response_ms[0], rel=WITHIN)
    # The model leaves out that a prompt waits for the end of the iteration under way.
    assert course.ttft_ms - course.itl_ms / 2 == pytest.approx(theory.ttft_ms[0], rel=WITHIN)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_roofline_model_predicts_its_engine(load: float) -> None:
    parameters = (15.0, 0.06, 1e-4, 0.02, 5.0, 0.05, 200_000.0)
    pair = models.replicas(64, 512, 128, [parameters])
    rate = load * _greatest_rps("roofline", pair)
    theory = models.analyze(pair, rate, "roofline")
    course = Course("roofline", parameters, 64, rate, TokenLengths(512, 128, 0.29, 0.29))
    assert course.ttft_ms == pytest.approx(theory.ttft_ms[0], rel=WITHIN)
    assert course.itl_ms == pytest.approx(theory.itl_ms[0], rel=WITHIN)
    assert course.stay_ms == pytest.approx(theory.response_ms[0], rel=WITHIN)


def _greatest_rps(model: str, pair: Replicas) -> float:
    return float(models.queue_models().create(model).rate_range_rps(pair)[1][0])
