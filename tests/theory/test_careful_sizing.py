"""Sizing for percentiles, and for what the parameters may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray, Replicas, SizingStatus
from controlloop.protocols import PercentileModel
from controlloop.queueing import models
from controlloop.queueing.confidence import Ask, Uncertainty, size_asked
from controlloop.queueing.models import queue_models
from controlloop.queueing.state_dependent import StateDependent
from controlloop.queueing.tails import Latency, Levels, percentile_of

MODEL = StateDependent()
COUNT = 60


def fleet(count: int = COUNT, seed: int = 3) -> Replicas:
    random = np.random.default_rng(seed)
    return models.replicas(
        max_batch=random.choice([1, 8, 64, 128], count),
        input_tokens=random.choice([0.0, 128.0, 512.0, 2048.0], count),
        output_tokens=random.choice([16.0, 256.0], count),
        parameters=np.column_stack(
            [
                random.uniform(5, 40, count),
                random.uniform(0.02, 0.6, count),
                random.uniform(20, 150, count),
                random.uniform(0.0005, 0.02, count),
            ]
        ),
    )


@pytest.mark.parametrize("name", ["state-dependent", "roofline"])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_percentile_holds_at_the_rate_found_and_at_every_lower_one(
    name: str, level: float
) -> None:
    pairs = fleet()
    if name == "roofline":
        values = [6.4, 0.0066, 4.3e-5, 0.0218, 6.0, 0.05, 438_000.0]
        pairs = replace(pairs, parameters=np.tile(values, (COUNT, 1)))
    model = queue_models().create(name)
    assert isinstance(model, PercentileModel)
    floor = model.size(pairs, models.targets(np.zeros(COUNT)))
    target = 3 * floor.floor_ttft_ms + 50
    levels = Levels(np.zeros(COUNT), np.full(COUNT, level))
    sizing = size_asked(model, pairs, Ask(models.targets(np.zeros(COUNT), target), levels))
    assert np.all(sizing.status == SizingStatus.OK)
    low, high = model.rate_range_rps(pairs)

    def at(rate: FloatArray) -> FloatArray:
        return percentile_of(model, pairs, rate, Latency.TTFT, levels.ttft) / target

    for share in (1.0, 0.99, 0.7, 0.3, 0.05):
        assert np.all(at(np.maximum(sizing.rate_rps * share, low)) <= 1 + 1e-8)
    inside = sizing.rate_rps < high * (1 - 1e-9)
    assert inside.sum() > COUNT / 2
    # A little more, and it does not hold: nothing is given away.
    assert np.all(at(sizing.rate_rps * (1 + 1e-6))[inside] > 1 - 1e-9)


def test_a_single_server_queue_is_sized_for_the_exact_percentile_of_its_wait() -> None:
    # N = 1, no prompt: M/M/1 of service 1/mu; P(W > t) = rho exp(-(mu - lambda) t).
    pair = models.replicas(1, 0.0, 11.0, [10.0, 0.0, 0.0, 0.0], max_queue=2000)
    target, level, mu = 300.0, 0.9, 1 / 100.0
    ask = Ask(models.targets(0.0, target), Levels(np.zeros(1), np.array([level])))
    rate_ms = size_asked(MODEL, pair, ask).rate_rps[0] / 1000
    assert rate_ms / mu * np.exp(-(mu - rate_ms) * target) == pytest.approx(1 - level, rel=1e-6)


def test_other_pairs_keep_their_means_and_an_unreachable_percentile_says_its_floor() -> None:
    pairs = fleet()
    targets = models.targets(np.full(COUNT, 60.0), np.full(COUNT, 1500.0))
    plain = MODEL.size(pairs, targets)
    none = np.zeros(COUNT)
    same = size_asked(MODEL, pairs, Ask(targets, Levels(none, none)))
    np.testing.assert_array_equal(same.rate_rps, plain.rate_rps)
    tight = models.targets(none, np.full(COUNT, 1.0))
    lost = size_asked(MODEL, pairs, Ask(tight, Levels(none, none + 0.99)))
    with_prompt = pairs.input_tokens > 0
    assert np.all(lost.status[with_prompt] == SizingStatus.TTFT_UNREACHABLE)
    low = MODEL.rate_range_rps(pairs)[0]
    np.testing.assert_array_equal(
        lost.floor_ttft_ms, MODEL.percentiles(pairs, low, (0.99,)).ttft_ms[0]
    )
    assert np.all(lost.rate_rps[with_prompt] == 0)


def test_a_model_of_means_is_refused_percentiles() -> None:
    class Means:
        name, parameter_names = "means", MODEL.parameter_names
        rate_range_rps, analyze, size = MODEL.rate_range_rps, MODEL.analyze, MODEL.size

    levels = Levels(np.zeros(COUNT), np.full(COUNT, 0.9))
    with pytest.raises(TypeError, match="means only"):
        size_asked(Means(), fleet(), Ask(models.targets(np.zeros(COUNT), 500.0), levels))


def spread_of(random: np.random.Generator, count: int, scale: float) -> FloatArray:
    root = random.normal(size=(count, 4, 4)) * scale
    return np.asarray(root @ root.transpose(0, 2, 1))


@pytest.mark.parametrize(("kind", "level"), [("ttft", 0.0), ("itl", 0.0), ("ttft", 0.95)])
def test_a_target_holds_for_the_share_of_possible_truths_that_was_asked_for(
    kind: str, level: float
) -> None:
    """The truth drawn from what is believed of it: coverage is the confidence, no more."""
    random, confidence = np.random.default_rng(5), 0.9
    pairs = replace(fleet(40), max_batch=np.full(40, 64), input_tokens=np.full(40, 512.0))
    covariance = spread_of(random, 40, 0.06)
    floor = MODEL.size(pairs, models.targets(np.zeros(40)))
    latency = Latency.TTFT if kind == "ttft" else Latency.ITL
    # Half way between alone and full.
    full = MODEL.analyze(pairs, MODEL.rate_range_rps(pairs)[1] * 0.8)
    if kind == "ttft":
        targets = models.targets(np.zeros(40), floor.floor_ttft_ms * 2)
    else:
        targets = models.targets((floor.floor_itl_ms + full.itl_ms) / 2, np.zeros(40))
    target = targets.ttft_ms if kind == "ttft" else targets.itl_ms
    levels = Levels(np.zeros(40), np.full(40, level)) if level else None
    sizing = size_asked(MODEL, pairs, Ask(targets, levels, Uncertainty(covariance, confidence)))
    there = sizing.status == SizingStatus.OK
    assert there.sum() > 20
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(4))
    held, draws = np.zeros(40), 150
    for _ in range(draws):
        shift = np.einsum("nij,nj->ni", root, random.normal(size=(40, 4)))
        truth = replace(pairs, parameters=pairs.parameters * np.exp(shift))
        if levels is not None:
            seen = percentile_of(MODEL, truth, sizing.rate_rps, latency, levels.ttft)
        else:
            seen = getattr(MODEL.analyze(truth, sizing.rate_rps), latency.value)
        held += seen <= target
    coverage = held[there] / draws
    assert 0.88 <= coverage.mean() <= 0.94
    assert coverage.min() >= 0.8
    # What is called out of reach holds at no rate with that confidence.
    assert np.all(held[~there] / draws < 0.95)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.99])
def test_confidence_never_allows_more_and_more_of_it_allows_less(confidence: float) -> None:
    random = np.random.default_rng(9)
    pairs, covariance = fleet(), spread_of(random, COUNT, 0.2)
    targets = models.targets(
        np.full(COUNT, 60.0), np.full(COUNT, 1500.0), random.choice([0, 9], COUNT)
    )
    plain = MODEL.size(pairs, targets)
    sure = size_asked(MODEL, pairs, Ask(targets, None, Uncertainty(covariance * 0, confidence)))
    np.testing.assert_array_equal(sure.rate_rps, plain.rate_rps)
    careful = size_asked(MODEL, pairs, Ask(targets, None, Uncertainty(covariance, confidence)))
    assert np.all(careful.rate_rps <= plain.rate_rps)
    more = size_asked(MODEL, pairs, Ask(targets, None, Uncertainty(covariance, 0.999)))
    assert np.all(more.rate_rps <= careful.rate_rps * (1 + 1e-6))
    if confidence == 0.5:
        np.testing.assert_allclose(careful.rate_rps, plain.rate_rps, rtol=1e-9)
    # What is met is what is predicted with the estimate, at the smaller rate.
    there = careful.status == SizingStatus.OK
    np.testing.assert_allclose(
        careful.at.ttft_ms[there], MODEL.analyze(pairs, careful.rate_rps).ttft_ms[there]
    )


def test_no_target_is_sized_below_what_the_replica_may_be_able_to_carry() -> None:
    pairs = fleet()
    none = np.zeros(COUNT)
    covariance = np.tile(0.04 * np.ones((4, 4)), (COUNT, 1, 1))
    ask = Ask(models.targets(none), None, Uncertainty(covariance, 0.9))
    found = size_asked(MODEL, pairs, ask).rate_rps / MODEL.size(pairs, ask.targets).rate_rps
    # All times scale alike, so the rate does: by e^(-1.2816 x 0.2).
    np.testing.assert_allclose(found, np.exp(-1.2815515655 * 0.2), rtol=1e-6)
