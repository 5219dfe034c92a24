from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.queueing import geometric

ratios = st.one_of(
    st.floats(-3.0, 3.0),
    st.floats(-1e-3, 1e-3),
    st.sampled_from([0.0, 1e-18, -1e-18, 1e-9, 0.25 / 50, -0.25 / 50]),
)


@given(st.integers(1, 300), ratios)
def test_closed_forms_equal_the_sums(count: int, u: float) -> None:
    peak = max(0.0, u * (count - 1))
    weights = [math.exp(u * i - peak) for i in range(count)]
    total = math.fsum(weights)
    mean = math.fsum(i * weight for i, weight in enumerate(weights)) / total
    spread = math.fsum((i - mean) ** 2 * weight for i, weight in enumerate(weights)) / total
    counts, us = np.array([float(count)]), np.array([u])
    found_mean, found_variance = geometric.mean_and_variance(counts, us)
    assert geometric.log_sum(counts, us)[0] == pytest.approx(peak + math.log(total), abs=1e-11)
    assert found_mean[0] + 1 == pytest.approx(mean + 1, rel=1e-12)
    assert found_variance[0] == pytest.approx(spread, rel=1e-9, abs=1e-10)


def test_no_places_sum_to_nothing() -> None:
    found = geometric.log_sum(np.zeros(3), np.array([-1.0, 0.0, 2.0]))
    assert np.all(found == -np.inf)


def test_extreme_ratios_stay_finite() -> None:
    counts, us = np.full(4, 1e9), np.array([-690.0, -1e-300, 1e-300, 690.0])
    mean, variance = geometric.mean_and_variance(counts, us)
    assert mean == pytest.approx([0, 5e8 - 0.5, 5e8 - 0.5, 1e9 - 1], abs=1e-6)
    assert np.all(variance >= 0)
    assert np.all(np.isfinite(variance))
    assert np.all(np.isfinite(geometric.log_sum(counts, us)))
