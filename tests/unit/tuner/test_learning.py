from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.estimates import Trust
from controlloop.api.replicas import FloatArray
from controlloop.api.system import PerfParameters
from controlloop.queueing.models import replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.belief import Belief, prior_of
from controlloop.tuner.learning import Learner
from controlloop.tuner.measurement import Measurement, Rejection, Rules
from controlloop.tuner.trust import verdict
from controlloop.tuner.tuning import Tuning

pytestmark = pytest.mark.slow

MODEL = StateDependent()
TRUTH = np.array([12.0, 0.3, 25.0, 0.002])
TUNING = Tuning()
PRIOR = prior_of(PerfParameters("m", "a", tuple(1.4 * TRUTH), 64, 512), TUNING.doubt)
MOST_RPS = float(MODEL.rate_range_rps(replicas(64, 500.0, 200.0, TRUTH))[1][0])


def at(number: int, truth: FloatArray = TRUTH, seed: int = 0, noise: float = 0.02) -> Measurement:
    """The measurement of this number, on a load that rises and falls."""
    rng = np.random.default_rng([seed, number])
    rate = MOST_RPS * (0.5 - 0.35 * math.cos(number / 4))
    pair = replicas(64, 500.0, 200.0, truth)
    analysis = MODEL.analyze(pair, np.array([rate]))
    factors = np.exp(rng.normal(0, noise, 2))
    return Measurement(
        time=60.0 * number,
        rate_rps=rate,
        input_tokens=500.0,
        output_tokens=200.0,
        max_batch=64,
        itl_ms=float(analysis.itl_ms[0] * factors[0]),
        ttft_ms=float(analysis.ttft_ms[0] * factors[1]),
        requests=60 * rate,
        source="0",
    )


def vars_of(one: Measurement) -> dict[str, Any]:
    return {each.name: getattr(one, each.name) for each in fields(one)}


def learn(belief: Belief, *measurements: Measurement) -> Belief:
    learner = Learner(MODEL, TUNING)
    for one in measurements:
        (belief,) = learner.learn([PRIOR], [belief], [one])
    return belief


@pytest.fixture(scope="module")
def learned() -> Belief:
    return learn(Belief.of(PRIOR), *(at(number) for number in range(30)))


NEXT = at(30)


def off(belief: Belief) -> float:
    return float(np.abs(np.exp(belief.mean) / TRUTH - 1)[0])


def test_it_warms_up_then_it_is_trusted() -> None:
    belief, verdicts = Belief.of(PRIOR), []
    for number in range(20):
        belief = learn(belief, at(number))
        verdicts.append(verdict(belief)[0])
    assert verdicts[:5] == [Trust.WARMING_UP] * 5
    assert verdicts[-1] is Trust.TRUSTED
    assert belief.trusted is not None
    assert off(belief) < 0.05


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"itl_ms": 0.0}, Rejection.NOT_POSITIVE),
        ({"itl_ms": -3.0}, Rejection.NOT_POSITIVE),
        ({"itl_ms": math.nan}, Rejection.NOT_FINITE),
        ({"itl_ms": math.inf}, Rejection.NOT_FINITE),
        ({"ttft_ms": 0.0}, Rejection.NOT_POSITIVE),
        ({"ttft_ms": -1.0}, Rejection.NOT_POSITIVE),
        ({"ttft_ms": math.nan}, Rejection.NOT_FINITE),
        ({"rate_rps": 0.0}, Rejection.NOT_POSITIVE),
        ({"rate_rps": -1.0}, Rejection.NOT_POSITIVE),
        ({"rate_rps": math.nan}, Rejection.NOT_FINITE),
        ({"input_tokens": -1.0}, Rejection.NOT_POSITIVE),
        ({"input_tokens": math.inf}, Rejection.NOT_FINITE),
        ({"output_tokens": 0.0}, Rejection.NOT_POSITIVE),
        ({"output_tokens": math.nan}, Rejection.NOT_FINITE),
        ({"max_batch": 0}, Rejection.NOT_POSITIVE),
        ({"running": -1.0}, Rejection.NOT_POSITIVE),
        ({"throughput_rps": math.nan}, Rejection.NOT_FINITE),
        ({"time": math.nan}, Rejection.NOT_FINITE),
        ({"time": math.inf}, Rejection.NOT_FINITE),
        ({"requests": 1.0}, Rejection.TOO_FEW_REQUESTS),
        ({"time": 60.0}, Rejection.TIME_BACKWARDS),
        # The last one once more.
        (vars_of(at(29)), Rejection.STALE),
        ({"itl_ms": at(29).itl_ms}, Rejection.FROZEN),
        ({"ttft_ms": at(29).ttft_ms}, Rejection.FROZEN),
        ({"itl_ms": 10 * NEXT.itl_ms}, Rejection.OUTLIER),
        ({"ttft_ms": 10 * (NEXT.ttft_ms or 0)}, Rejection.OUTLIER),
        ({"rate_rps": 1e300}, Rejection.OUTLIER),
        ({"output_tokens": 1e300}, Rejection.UNPREDICTABLE),
    ],
)
def test_bad_input_teaches_nothing_and_is_counted(
    learned: Belief, change: dict[str, Any], reason: Rejection
) -> None:
    after = learn(learned, replace(NEXT, **change))
    np.testing.assert_array_equal(after.mean, learned.mean)
    np.testing.assert_array_equal(after.covariance, learned.covariance)
    np.testing.assert_array_equal(after.noise, learned.noise)
    assert after.accepted == learned.accepted
    assert after.rejected.get(reason, 0) == learned.rejected.get(reason, 0) + 1
    assert sum(after.rejected.values()) == sum(learned.rejected.values()) + 1


wild = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1e-300, 1e300, -1.0, math.nan]))


@given(rate=wild, tokens_in=wild, tokens_out=wild, itl=wild, ttft=wild | st.none(), running=wild)
def test_nothing_that_can_be_measured_makes_a_belief_unusable(
    rate: float, tokens_in: float, tokens_out: float, itl: float, ttft: float | None, running: float
) -> None:
    one = Measurement(0.0, rate, tokens_in, tokens_out, 64, itl, ttft, 10.0, running=running)
    queued = replace(one, queue_seen=True, throughput_rps=abs(rate))
    belief = learn(Belief.of(PRIOR), *(at(number) for number in range(7)))
    late = [replace(each, time=60.0 * (8 + k)) for k, each in enumerate((one, queued, at(8)))]
    after = learn(belief, *late)
    assert np.isfinite(after.mean).all()
    assert np.isfinite(after.covariance).all()
    assert np.linalg.eigvalsh(after.covariance).min() > -1e-12
    # And what comes after is learned as ever.
    after = learn(after, *(at(number) for number in range(12, 40)))
    assert verdict(after)[0] is Trust.TRUSTED
    assert off(after) < 0.05


def test_a_server_without_scatter_under_a_constant_load_is_learned(learned: Belief) -> None:
    again = replace(NEXT, time=NEXT.time + 60, rate_rps=1.01 * NEXT.rate_rps)
    after = learn(learned, NEXT, again)
    assert after.accepted == learned.accepted + 2


def test_one_clock_error_costs_one_cycle_not_all_that_follow(learned: Belief) -> None:
    after = learn(learned, replace(at(31), time=50.0), replace(at(32), time=110.0))
    assert after.rejected[Rejection.TIME_BACKWARDS] == 1
    assert after.accepted == learned.accepted + 1


@pytest.mark.parametrize("time", [math.inf, math.nan])
def test_a_time_that_is_none_makes_nothing_that_follows_old(learned: Belief, time: float) -> None:
    after = learn(learned, replace(NEXT, time=time), NEXT)
    assert after.accepted == learned.accepted + 1


def test_how_many_requests_it_takes_is_a_setting(learned: Belief) -> None:
    few = replace(NEXT, requests=2.0)
    strict = Learner(MODEL, TUNING).learn([PRIOR], [learned], [few])[0]
    tuning = replace(TUNING, rules=Rules(min_requests=1.0))
    lax = Learner(MODEL, tuning).learn([PRIOR], [learned], [few])[0]
    assert (strict.accepted, lax.accepted) == (learned.accepted, learned.accepted + 1)


def test_a_mean_of_few_requests_moves_a_belief_less_than_one_of_many() -> None:
    belief = learn(Belief.of(PRIOR), *(at(number) for number in range(8)))
    higher = replace(at(8), ttft_ms=1.05 * (at(8).ttft_ms or 0), itl_ms=1.05 * at(8).itl_ms)
    moved = [
        float(np.abs(learn(belief, replace(higher, requests=n)).mean - belief.mean).max())
        for n in (4.0, 4000.0)
    ]
    assert moved[0] < moved[1]


def test_a_server_that_changed_is_learned_anew_and_doubted_meanwhile(learned: Belief) -> None:
    assert learned.trusted is not None
    belief, seen = learned, []
    for number in range(30, 55):
        belief = learn(belief, at(number, 2.5 * TRUTH))
        seen.append(verdict(belief)[0])
        if seen[-1] is not Trust.TRUSTED and belief.refits == learned.refits:
            np.testing.assert_array_equal(belief.trusted, learned.trusted)
    assert Trust.DOUBTFUL in seen
    assert seen[-1] is Trust.TRUSTED
    np.testing.assert_allclose(np.exp(belief.mean)[0], 2.5 * TRUTH[0], rtol=0.05)
    assert belief.refits > learned.refits


def test_a_server_that_drifts_is_followed(learned: Belief) -> None:
    belief = learned
    for number in range(30, 150):
        belief = learn(belief, at(number, TRUTH * 1.3 ** ((number - 30) / 120)))
    np.testing.assert_allclose(np.exp(belief.mean)[0], 1.3 * TRUTH[0], rtol=0.05)
    assert verdict(belief)[0] is Trust.TRUSTED


def test_a_disturbance_over_what_was_proven_comes_back() -> None:
    proven = learn(Belief.of(PRIOR), *(at(number) for number in range(40)))
    assert proven.proven is not None
    disturbed = learn(proven, *(at(number, 3 * TRUTH) for number in range(40, 52)))
    assert off(disturbed) > 0.5
    back = learn(disturbed, *(at(number) for number in range(52, 64)))
    assert off(back) < 0.05


def test_in_a_queue_it_learns_from_itl_and_throughput_and_not_from_ttft(learned: Belief) -> None:
    full = replicas(64, 500.0, 200.0, TRUTH)
    beyond = MODEL.analyze(full, np.array([2 * MOST_RPS]))
    one = replace(
        NEXT,
        ttft_ms=90_000.0,
        itl_ms=float(beyond.itl_ms[0]),
        throughput_rps=float(beyond.throughput_rps[0]),
        running=64.0,
        queue_seen=True,
    )
    after = learn(learned, one)
    assert after.accepted == learned.accepted + 1
    assert after.compared is not None
    assert math.isnan(after.compared.expected[0])
    assert off(after) < 0.05


def test_noise_that_grows_is_found_out_and_locks_nothing_out(learned: Belief) -> None:
    belief = learn(learned, *(at(number, noise=0.15, seed=5) for number in range(30, 90)))
    turned_away = sum(belief.rejected.values()) - sum(learned.rejected.values())
    assert turned_away < 20
    assert belief.noise.max() > 4 * learned.noise.max()
    assert off(belief) < 0.1


def test_what_a_pair_learns_does_not_depend_on_the_others(learned: Belief) -> None:
    measurements = [at(30), replace(at(31), itl_ms=math.nan), at(32, 2 * TRUTH)]
    together = Learner(MODEL, TUNING).learn([PRIOR] * 3, [learned] * 3, measurements)
    for one, belief in zip(measurements, together, strict=True):
        (alone,) = Learner(MODEL, TUNING).learn([PRIOR], [learned], [one])
        np.testing.assert_allclose(belief.mean, alone.mean, rtol=1e-12)
        assert belief.rejected == alone.rejected
