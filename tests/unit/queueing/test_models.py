from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from controlloop.errors import UnknownPluginError
from controlloop.queueing import models
from controlloop.queueing.state_dependent import StateDependent


def test_the_default_model_is_in_the_table() -> None:
    assert isinstance(models.queue_models().create("state-dependent"), StateDependent)


def test_an_unknown_model_names_the_known() -> None:
    with pytest.raises(UnknownPluginError, match="state-dependent"):
        models.analyze(models.replicas(1, 0, 2, [1, 0, 0, 0]), 0.1, model="mg1")


def test_a_model_of_a_third_party_is_named_by_module_and_factory() -> None:
    pair = models.replicas(4, 0, 2, [1, 0, 0, 0])
    named = "controlloop.queueing.state_dependent:StateDependent"
    assert (
        models.size(pair, models.targets(), named).rate_rps
        == models.size(pair, models.targets()).rate_rps
    )


def test_single_numbers_count_for_all_pairs() -> None:
    pairs = models.replicas([2, 4, 8], 16, [2, 4, 8], [1.0, 0.1, 2.0, 0.01])
    assert list(pairs.max_queue) == [20, 40, 80]
    assert pairs.parameters.shape == (3, 4)
    found = models.size(pairs, models.targets(itl_ms=1.3))
    one = models.size(models.replicas(4, 16, 4, [1.0, 0.1, 2.0, 0.01]), models.targets(itl_ms=1.3))
    assert found.rate_rps[1] == one.rate_rps[0]
    assert np.array_equal(models.analyze(pairs, 1.0).itl_ms, models.analyze(pairs, [1] * 3).itl_ms)


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        models.replicas([2, 4, 8], [1, 2], 4, [1.0, 0.1, 2.0, 0.01])


def test_percentiles_spread_around_the_mean_and_follow_the_wait() -> None:
    pairs = models.replicas(8, 128, 64, [19.0, 1.0, 60.0, 0.02])
    most = float(models.size(pairs, models.targets()).rate_rps[0])
    idle = models.percentiles(pairs, 0.0, [0.5, 0.99])
    assert np.array_equal(idle.ttft_ms[0], idle.ttft_ms[1])
    busy = models.percentiles(pairs, most, [0.5, 0.9, 0.99])
    mean = models.analyze(pairs, most)
    assert np.all(np.diff(busy.ttft_ms, axis=0) > 0)
    assert busy.ttft_ms[0, 0] < mean.ttft_ms[0] < busy.ttft_ms[2, 0]
    assert busy.itl_ms[0, 0] < busy.itl_ms[2, 0]


def test_the_wait_of_a_single_server_is_exponential() -> None:
    # M/M/1: P(wait > t) = rho e^(-(1 - rho) t/s).
    pair = models.replicas(1, 0, 2, [100.0, 0, 0, 0], max_queue=10**6)
    found = models.percentiles(pair, 8.0, [0.15, 0.5, 0.99]).ttft_ms[:, 0]
    assert found[0] == 0
    assert found[1:] == pytest.approx(500 * np.log(0.8 / np.array([0.5, 0.01])), rel=1e-6)


def test_far_beyond_saturation_everyone_waits_for_the_whole_queue() -> None:
    pair = models.replicas(1, 0, 2, [100.0, 0, 0, 0], max_queue=400)
    found = models.percentiles(pair, 1e6, [0.5, 0.99]).ttft_ms[:, 0]
    assert found[0] == pytest.approx(100 * 400, rel=0.01)
    # The sum of 400 services of 100 ms, whose deviation is 20 of them.
    assert found[1] == pytest.approx(100 * (400 + 2.326 * 20), rel=0.01)


def test_percentiles_of_what_cannot_be_evaluated_are_not_numbers() -> None:
    pairs = models.replicas([8, 0, 8], 128, 64, [19.0, 1.0, 60.0, 0.02])
    found = models.percentiles(pairs, [1.0, 1.0, -1.0], [0.9])
    assert np.isnan(found.ttft_ms).tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="between 0 and 1"):
        models.percentiles(pairs, 1.0, [0.5, 1.0])


def test_a_model_of_means_has_no_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    class MeansOnly:
        name = "means-only"
        parameter_names = ("service_ms",)
        rate_range_rps = analyze = size = print

    module = ModuleType("of_a_third_party")
    module.__dict__["MeansOnly"] = MeansOnly
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(UnknownPluginError, match="means only"):
        models.percentiles(
            models.replicas(1, 0, 2, [1.0]), 0.1, [0.5], model="of_a_third_party:MeansOnly"
        )
