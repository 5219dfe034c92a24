from __future__ import annotations

import math

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray
from controlloop.api.system import PerfParameters
from controlloop.protocols import QueueModel
from controlloop.queueing.models import queue_models, replicas
from controlloop.tuner.belief import Doubt, prior_of
from controlloop.tuner.first_fit import fit_windows
from controlloop.tuner.kalman import Gaussians
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.sweep_fit import PRIORS


def window(model: QueueModel, values: FloatArray, loads: FloatArray) -> list[Measurement]:
    """What replicas with parameters `values` show at shares of their greatest rate."""
    pair = replicas(128, 2000.0, 1000.0, values)
    most = float(model.rate_range_rps(pair)[1][0])
    found = []
    for load in loads:
        analysis = model.analyze(pair, np.array([load * most]))
        ttft, itl = float(analysis.ttft_ms[0]), float(analysis.itl_ms[0])
        found.append(Measurement(0.0, load * most, 2000.0, 1000.0, 128, itl, ttft))
    return found


@pytest.mark.parametrize("name", ["state-dependent", "iteration-time", "roofline"])
@pytest.mark.parametrize("factor", [0.05, 0.4, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_window_is_fitted_from_starts_that_are_wrong_each_in_its_own_way(
    name: str, factor: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = queue_models().create(name)
    names = model.parameter_names
    common = np.array([PRIORS[name][one] for one in names])
    truth = common * np.exp(rng.normal(0, 0.5, len(common)))
    times = np.array([one.endswith("_ms") for one in names])
    start = common * np.where(times, factor, 1.0)
    perf = PerfParameters(
        "m", "a", tuple(start.tolist()), 128, 1, queue_model=name, parameter_names=names
    )
    prior = prior_of(perf, Doubt())
    one = Gaussians(
        prior.mean[np.newaxis],
        prior.covariance[np.newaxis],
        prior.free[np.newaxis],
        prior.mean[np.newaxis],
    )
    fit = fit_windows(model, one, [window(model, truth, np.linspace(0.2, 0.85, 8))])
    assert float(np.median(fit.misfit[0])) < 0.03
    assert not math.isnan(fit.covariance.sum())
