"""The tuner against truths that are known: how near it comes, and how sure it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from controlloop.api.estimates import Trust
from controlloop.api.replicas import FloatArray, Replicas
from controlloop.api.system import PerfParameters
from controlloop.queueing.models import replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.belief import Belief, Doubt, Prior, prior_of
from controlloop.tuner.expectation import Table, expect
from controlloop.tuner.learning import Learner
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.trust import verdict
from controlloop.tuner.tuning import Tuning

MODEL = StateDependent()
NOISE = 0.05
OBSERVATIONS = 150
UNSEEN = (0.2, 0.37, 0.53, 0.71, 0.85)


@dataclass(eq=False)
class Truths:
    """Replicas of random parameters, configured wrongly, and what is learned of them."""

    truth: FloatArray
    configured: FloatArray
    pairs: Replicas
    most_rps: FloatArray
    rng: np.random.Generator

    @classmethod
    def draw(cls, count: int, seed: int) -> Truths:
        rng = np.random.default_rng(seed)
        truth = np.column_stack(
            [
                rng.uniform(4, 30, count),
                rng.uniform(0.05, 1.0, count),
                rng.uniform(5, 60, count),
                np.exp(rng.uniform(np.log(2e-4), np.log(5e-3), count)),
            ]
        )
        pairs = replicas(
            rng.choice([32, 64, 128], count),
            rng.uniform(128, 2048, count),
            rng.uniform(64, 1024, count),
            truth,
        )
        configured = truth * np.exp(rng.normal(0, 0.4, truth.shape))
        return cls(truth, configured, pairs, MODEL.rate_range_rps(pairs)[1], rng)

    @property
    def priors(self) -> list[Prior]:
        doubt = Doubt()
        return [
            prior_of(PerfParameters("m", "a", tuple(row), 1, 1), doubt) for row in self.configured
        ]

    def at(self, time: float, load: float) -> list[Measurement]:
        """Noisy latencies of each replica at a share of its greatest rate."""
        rates = load * self.most_rps
        analysis = MODEL.analyze(self.pairs, rates)
        shape = (len(self.pairs), 2)
        noise = np.exp(self.rng.normal(0, NOISE, shape))
        return [
            Measurement(
                time=time,
                rate_rps=float(rates[row]),
                input_tokens=float(self.pairs.input_tokens[row]),
                output_tokens=float(self.pairs.output_tokens[row]),
                max_batch=int(self.pairs.max_batch[row]),
                ttft_ms=float(analysis.ttft_ms[row] * noise[row, 0]),
                itl_ms=float(analysis.itl_ms[row] * noise[row, 1]),
            )
            for row in range(len(self.pairs))
        ]

    def learn(self, loads: Sequence[float]) -> list[Belief]:
        learner, priors = Learner(MODEL, Tuning(), most_fits=10**6), self.priors
        beliefs = [Belief.of(prior) for prior in priors]
        for number, load in enumerate(loads):
            beliefs = learner.learn(priors, beliefs, self.at(60.0 * number, load))
        return beliefs

    def information(self, loads: Sequence[float]) -> FloatArray:
        """Fisher's information on the logarithms of the parameters: (n, 4, 4)."""
        total = np.zeros((len(self.pairs), 4, 4))
        for load in loads:
            table = Table.of([replace(one, time=0.0) for one in self.at(0.0, load)])
            slopes = expect(MODEL, np.log(self.truth), table).slopes[:, :2]
            total += np.swapaxes(slopes, 1, 2) @ slopes / NOISE**2
        return total

    def errors(self, learned: FloatArray, load: float) -> tuple[FloatArray, FloatArray]:
        """Relative errors of predicted TTFT and ITL at a share of the greatest rate."""
        rates = load * self.most_rps
        right = MODEL.analyze(self.pairs, rates)
        found = MODEL.analyze(replace(self.pairs, parameters=np.exp(learned)), rates)
        return (
            np.abs(found.ttft_ms / right.ttft_ms - 1),
            np.abs(found.itl_ms / right.itl_ms - 1),
        )


def rising_and_falling(count: int) -> list[float]:
    phases = 2 * np.pi * np.arange(count) / 50
    return [float(0.5 - 0.4 * np.cos(phase)) for phase in phases]


def means(beliefs: Sequence[Belief]) -> FloatArray:
    return np.stack([belief.mean for belief in beliefs])


def standard_errors(beliefs: Sequence[Belief]) -> FloatArray:
    return np.sqrt(np.stack([np.diag(belief.covariance) for belief in beliefs]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_parameters_and_unseen_loads_of_200_truths(seed: int) -> None:
    truths, loads = Truths.draw(200, seed), rising_and_falling(OBSERVATIONS)
    beliefs = truths.learn(loads)
    wrong = np.abs(means(beliefs) - np.log(truths.truth))
    assert np.median(wrong[:, 0]) < 0.01
    for load in UNSEEN:
        for errors in truths.errors(means(beliefs), load):
            assert np.median(errors) < 0.03

    errors = standard_errors(beliefs)
    covered = wrong < 1.645 * errors
    assert (covered.mean(axis=0) >= 0.85).all()
    bound = np.sqrt(np.einsum("nkk->nk", np.linalg.inv(truths.information(loads))))
    assert (np.median(errors / bound, axis=0) <= 3.0).all()


def test_a_few_truths_are_found_and_trusted() -> None:
    truths = Truths.draw(16, 7)
    beliefs = truths.learn(rising_and_falling(75))
    wrong = np.abs(means(beliefs) - np.log(truths.truth))
    assert np.median(wrong[:, 0]) < 0.02
    assert (wrong < 1.645 * standard_errors(beliefs)).mean() > 0.75
    assert all(verdict(belief)[0] is Trust.TRUSTED for belief in beliefs)


@pytest.mark.slow
def test_one_operating_point_is_predicted_and_leaves_the_rest_open() -> None:
    truths, loads = Truths.draw(100, 1), [0.5] * OBSERVATIONS
    beliefs = truths.learn(loads)
    for errors in truths.errors(means(beliefs), 0.5):
        assert np.median(errors) < 0.03
        assert np.quantile(errors, 0.9) < 0.03
    # As uncertain as the data and the prior together allow, and no surer.
    information = truths.information(loads)
    prior = np.stack([np.linalg.inv(one.covariance) for one in truths.priors])
    allowed = np.sqrt(np.einsum("nkk->nk", np.linalg.inv(information + prior)))
    ratio = standard_errors(beliefs) / allowed
    assert (np.median(ratio, axis=0) > 0.8).all()
    away = np.abs(means(beliefs) - np.log(truths.truth))
    assert ((away < 1.645 * standard_errors(beliefs)).mean(axis=0) >= 0.85).all()


@pytest.mark.slow
def test_what_one_operating_point_does_not_excite_stays_where_it_was() -> None:
    truths = Truths.draw(100, 2)
    truths.configured = truths.truth.copy()
    beliefs = truths.learn([0.5] * OBSERVATIONS)
    moved = np.abs(means(beliefs) - np.log(truths.configured))
    assert (moved < standard_errors(beliefs)).mean() > 0.98
