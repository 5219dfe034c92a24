from __future__ import annotations

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray
from controlloop.tuner.fit import Prior, fit, weighted_error

X = np.linspace(1, 20, 40)


def line(values: FloatArray) -> FloatArray:
    return np.asarray(values[0] + values[1] * X)


def test_parameters_far_from_the_prior_are_found() -> None:
    found = fit(line, line(np.array([7.0, 0.3])), Prior(("a", "b"), np.array([1.0, 5.0])))
    assert found.converged
    assert found.values == pytest.approx([7.0, 0.3], rel=0.01)
    assert np.abs(found.log_residuals).max() < 0.01


def test_stated_errors_are_as_large_as_the_scatter_over_repetitions() -> None:
    random = np.random.default_rng(1)
    truth = np.array([7.0, 0.3])
    fits = [
        fit(line, line(truth) * np.exp(random.normal(0, 0.01, len(X))), Prior(("a", "b"), truth))
        for _ in range(40)
    ]
    scatter = np.std([np.log(each.values) for each in fits], axis=0)
    stated = np.mean([each.relative_errors for each in fits], axis=0)
    assert stated == pytest.approx(scatter, rel=0.5)


def test_a_parameter_that_starts_at_zero_stays_there() -> None:
    found = fit(line, line(np.array([7.0, 0.3])), Prior(("a", "b"), np.array([5.0, 0.0])))
    assert found.values[1] == 0
    assert found.relative_errors[1] == 0
    assert found.relative_errors[0] > 0


def test_a_parameter_that_the_data_says_nothing_of_keeps_its_prior_and_its_uncertainty() -> None:
    prior = Prior(("a", "b", "idle"), np.array([5.0, 1.0, 42.0]))
    found = fit(line, line(np.array([7.0, 0.3])) * 1.001 ** (X % 3), prior)
    assert found.values[2] == pytest.approx(42.0)
    assert found.relative_errors[2] > 10 * found.relative_errors[0]


def test_a_run_that_went_wrong_does_not_bend_the_fit() -> None:
    measured = line(np.array([7.0, 0.3]))
    measured[5] *= 10
    found = fit(line, measured, Prior(("a", "b"), np.array([5.0, 1.0])))
    assert found.values == pytest.approx([7.0, 0.3], rel=0.03)


def test_what_weighs_nothing_or_was_not_measured_does_not_count() -> None:
    measured = line(np.array([7.0, 0.3]))
    weight = np.ones(len(X))
    measured[3], weight[3] = 1e6, 0
    measured[4] = np.nan
    found = fit(line, measured, Prior(("a", "b"), np.array([5.0, 1.0])), weight)
    assert found.values == pytest.approx([7.0, 0.3], rel=0.01)
    assert np.isnan(found.log_residuals[4])


def test_a_model_without_an_answer_somewhere_does_not_stop_the_search() -> None:
    def partial(values: FloatArray) -> FloatArray:
        return np.where(values[1] > 0.5, np.nan, line(values))

    found = fit(partial, line(np.array([7.0, 0.3])), Prior(("a", "b"), np.array([5.0, 0.4])))
    assert found.values == pytest.approx([7.0, 0.3], rel=0.01)


@pytest.mark.parametrize(
    ("measured", "prior", "message"),
    [
        (np.full(40, np.nan), [1.0, 1.0], "nothing is measured"),
        (np.full(40, -1.0), [1.0, 1.0], "measured values must be > 0"),
        (np.full(40, 1.0), [-1.0, 1.0], "prior values must be >= 0"),
        (np.full(40, 1.0), [np.inf, 1.0], "prior values must be >= 0"),
        (np.full(40, 1.0), [1.0], "2 names for 1 prior values"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    measured: FloatArray, prior: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(line, measured, Prior(("a", "b"), np.array(prior)))


def test_the_weighted_error_is_the_sum_of_errors_by_the_sum_of_truths() -> None:
    assert weighted_error(np.array([11.0, 90.0]), [10.0, 100.0]) == pytest.approx(11 / 110)
