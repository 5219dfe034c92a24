from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import ExtendedKalmanFilter
from scipy.optimize import minimize

from controlloop.api.replicas import FloatArray
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.expectation import ITL, TTFT, Table, expect, expected_values
from controlloop.tuner.kalman import Gaussians, Innovation, innovation, update
from controlloop.tuner.measurement import Measurement

pytestmark = pytest.mark.slow

MODEL = StateDependent()
TRUTH = np.log([12.0, 0.3, 25.0, 0.002])
NOISE = 0.02


def observed(rate_rps: float, log_parameters: FloatArray = TRUTH) -> Table:
    blank = Measurement(0.0, rate_rps, 500.0, 200.0, 64, 1.0, 1.0)
    values = np.exp(expected_values(MODEL, log_parameters[np.newaxis], Table.of([blank]))[0])
    one = Measurement(
        0.0, rate_rps, 500.0, 200.0, 64, itl_ms=float(values[ITL]), ttft_ms=float(values[TTFT])
    )
    return Table.of([one])


def around(mean: FloatArray, deviation: float) -> Gaussians:
    free = np.ones((1, 4), dtype=np.bool_)
    return Gaussians(mean[np.newaxis], deviation**2 * np.eye(4)[np.newaxis], free, mean[np.newaxis])


def compared(prior: Gaussians, table: Table) -> Innovation:
    expected = expect(MODEL, prior.log_parameters, table)
    noise = np.where(np.eye(3) > 0, NOISE**2, 0.0)[np.newaxis]
    noise[0, 2, 2] = 1.0
    return innovation(prior, table, expected, noise, table.known)


def test_a_short_step_is_filterpys_and_many_pairs_are_each_as_alone() -> None:
    tables = [observed(1.0), observed(2.0)]
    means = [TRUTH + 0.001, TRUTH - 0.0015]
    alone = []
    for table, mean in zip(tables, means, strict=True):
        prior = around(mean, 0.05)
        found = compared(prior, table)
        engine = ExtendedKalmanFilter(dim_x=4, dim_z=2)
        engine.x, engine.P = prior.mean[0], prior.covariance[0]
        slopes, values = found.slopes[0, :2], table.log_values[0, :2] - found.residual[0, :2]
        engine.update(
            table.log_values[0, :2],
            lambda _, slopes=slopes: slopes,
            lambda _, values=values: values,
            R=found.noise[0, :2, :2],
        )
        alone.append(engine)
        after = update(MODEL, prior, table, found)
        np.testing.assert_allclose(after.mean[0], engine.x, rtol=1e-10)
        np.testing.assert_allclose(after.covariance[0], engine.P, rtol=1e-9, atol=1e-14)

    both = Gaussians(
        np.stack(means),
        np.tile(0.05**2 * np.eye(4), (2, 1, 1)),
        np.ones((2, 4), dtype=np.bool_),
        np.stack(means),
    )
    joined = Table(*(np.concatenate(parts) for parts in zip(*map(_parts, tables), strict=True)))
    after = update(MODEL, both, joined, _two(both, joined))
    for row, engine in enumerate(alone):
        np.testing.assert_allclose(after.mean[row], engine.x, rtol=1e-10)


def _parts(table: Table) -> tuple[FloatArray, ...]:
    return tuple(getattr(table, name) for name in Table.__dataclass_fields__)


def _two(prior: Gaussians, table: Table) -> Innovation:
    noise = np.tile(np.diag([NOISE**2, NOISE**2, 1.0]), (2, 1, 1))
    expected = expect(MODEL, prior.log_parameters, table)
    return innovation(prior, table, expected, noise, table.known)


@pytest.mark.parametrize("rate_rps", [0.5, 2.0, 2.9])
@pytest.mark.parametrize("wrong", [0.8, -0.8])
def test_a_long_step_ends_at_the_most_likely_parameters(rate_rps: float, wrong: float) -> None:
    table, prior = observed(rate_rps), around(TRUTH + wrong, 1.0)
    prior = Gaussians(prior.mean, prior.covariance, prior.free, TRUTH[np.newaxis])
    after = update(MODEL, prior, table, compared(prior, table))

    def unlikely(x: FloatArray) -> float:
        away = x - prior.mean[0]
        values = expected_values(MODEL, x[np.newaxis], table)[0, :2]
        misfit = (table.log_values[0, :2] - values) / NOISE
        return float(away @ away + misfit @ misfit)

    best = min(
        minimize(unlikely, start, method="Nelder-Mead", options={"maxiter": 4000}).fun
        for start in (prior.mean[0], after.mean[0])
    )
    assert unlikely(after.mean[0]) <= best + 1.0
    assert unlikely(after.mean[0]) < 0.05 * unlikely(prior.mean[0])


def test_an_update_never_makes_the_posterior_worse_at_the_knee() -> None:
    # The greatest rate is near 2.98/s: there the slope of TTFT says nothing two percent away.
    table, prior = observed(2.95), around(TRUTH + 0.5, 1.0)
    after = update(MODEL, prior, table, compared(prior, table))
    assert np.abs(after.mean - TRUTH).max() < 1.5
    assert np.isfinite(after.covariance).all()


def test_what_is_not_measured_is_not_learned() -> None:
    table = observed(1.0)
    table.known[0, TTFT] = False
    prior = around(TRUTH + 0.3, 0.5)
    after = update(MODEL, prior, table, compared(prior, table))
    # Only TTFT depends on gamma at this load; delta moves the batch a little.
    assert after.mean[0, 2] == pytest.approx(prior.mean[0, 2], abs=0.01)
    assert after.covariance[0, 2, 2] == pytest.approx(0.25, rel=0.01)


def test_a_parameter_that_is_zero_stays_zero() -> None:
    free = np.array([[True, True, True, False]])
    prior = Gaussians(
        (TRUTH * free[0])[np.newaxis] + 0.2 * free,
        np.diag(0.25 * free[0])[np.newaxis],
        free,
        (TRUTH * free[0])[np.newaxis],
    )
    assert np.exp(prior.log_parameters)[0, 3] == 0.0
    table = observed(1.0)
    after = update(MODEL, prior, table, compared(prior, table))
    assert np.exp(after.log_parameters)[0, 3] == 0.0
    assert (after.covariance[0, 3] == 0).all()
    assert not np.allclose(after.mean, prior.mean)


def test_slopes_of_what_is_not_well_known_are_taken_where_they_were() -> None:
    mean, reference = TRUTH[np.newaxis] + 0.1, TRUTH[np.newaxis]
    deviations = np.array([0.01, 0.5, 0.01, 0.5])
    covariance = np.diag(deviations**2)[np.newaxis]
    free = np.ones((1, 4), dtype=np.bool_)
    found = Gaussians(mean, covariance, free, reference).slopes_at(mean)
    np.testing.assert_allclose(found - reference, [[0.1, 0.0, 0.1, 0.0]], atol=1e-12)
