from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from controlloop.api.replicas import Analysis, Replicas, Sizing, SizingStatus
from controlloop.queueing import models
from controlloop.queueing.service import MAX_BATCH

PARAMETERS = [19.0, 1.0, 60.0, 0.02]


def same(first: Analysis | Sizing, second: Analysis | Sizing) -> bool:
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, Analysis):
            if not same(one, other):
                return False
        elif not np.array_equal(one, other, equal_nan=True):
            return False
    return True


def fleet(count: int, batch: int) -> Replicas:
    random = np.random.default_rng(3)
    return models.replicas(
        max_batch=random.integers(1, batch, count),
        input_tokens=random.choice([0.0, 128.0], count),
        output_tokens=random.choice([2.0, 256.0], count),
        parameters=random.uniform(0.01, 30, (count, 4)),
    )


@pytest.mark.parametrize(("count", "batch"), [(30, 300), (60, 4096)])
def test_a_pair_is_answered_alike_alone_and_among_others(count: int, batch: int) -> None:
    replicas = fleet(count, batch)
    targets = models.targets(itl_ms=np.linspace(20, 200, count), ttft_ms=3000.0)
    rate = np.linspace(0.1, 5, count)
    analysis, sizing = models.analyze(replicas, rate), models.size(replicas, targets)
    for row in range(0, count, 7):
        one = np.array([row])
        alone = models.size(replicas.take(one), models.targets(targets.itl_ms[row], 3000.0))
        assert alone.rate_rps[0] == sizing.rate_rps[row]
        assert same(models.analyze(replicas.take(one), rate[row]), _row(analysis, row))


def _row(analysis: Analysis, row: int) -> Analysis:
    return Analysis(*(getattr(analysis, field.name)[[row]] for field in fields(Analysis)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_batch", 0),
        ("max_batch", -5),
        ("max_batch", MAX_BATCH + 1),
        ("max_queue", -1),
        ("max_queue", 10**10),
        ("input_tokens", np.nan),
        ("input_tokens", -1.0),
        ("output_tokens", np.inf),
        ("output_tokens", 0.0),
        ("parameters", [np.nan, 1, 1, 1]),
        ("parameters", [1, -1, 1, 1]),
        ("parameters", [1, 1, np.inf, 1]),
        ("parameters", [0, 0, 0, 0]),
        ("parameters", [1e200, 1e200, 1e200, 1e200]),
    ],
)
def test_an_invalid_pair_is_named_and_disturbs_no_other(name: str, value: object) -> None:
    good = models.replicas([8, 8, 8], 128, 64, [PARAMETERS] * 3)
    bad = Replicas(*(getattr(good, field.name).copy() for field in fields(Replicas)))
    getattr(bad, name)[1] = value
    others = np.array([0, 2])
    targets = models.targets(itl_ms=24.0, ttft_ms=300.0)
    wanted, found = models.size(good, targets), models.size(bad, targets)
    assert found.status[1] == SizingStatus.INVALID
    assert found.rate_rps[1] == 0
    assert np.isnan(found.rate_ttft_rps[1])
    assert np.isnan(found.at.itl_ms[1])
    assert np.array_equal(found.rate_rps[others], wanted.rate_rps[others])
    analysis = models.analyze(bad, 1.0)
    assert np.isnan(analysis.ttft_ms[1])
    assert np.isnan(analysis.max_rate_rps[1])
    assert np.array_equal(analysis.ttft_ms[others], models.analyze(good, 1.0).ttft_ms[others])


@pytest.mark.parametrize("rate", [np.nan, np.inf, -1.0])
def test_an_invalid_rate_has_no_state(rate: float) -> None:
    found = models.analyze(models.replicas([8, 8], 128, 64, PARAMETERS), [rate, 1.0])
    assert all(np.isnan(getattr(found, field.name)[0]) for field in fields(Analysis))
    assert np.isfinite(found.ttft_ms[1])


@pytest.mark.parametrize("name", ["itl_ms", "ttft_ms", "tps"])
@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_an_invalid_target_makes_the_pair_invalid(name: str, value: float) -> None:
    targets = models.targets(**{name: [value, 0.0]})
    found = models.size(models.replicas([8, 8], 128, 64, PARAMETERS), targets)
    assert list(found.status) == [SizingStatus.INVALID, SizingStatus.OK]


def test_one_output_token_of_no_input_takes_no_time_and_is_invalid() -> None:
    found = models.size(models.replicas(8, 0, [1, 2], PARAMETERS), models.targets())
    assert list(found.status) == [SizingStatus.INVALID, SizingStatus.OK]


def test_less_than_one_output_token_on_average_counts_as_one() -> None:
    found = models.analyze(models.replicas(8, 128, [0.25, 1.0], PARAMETERS), 1.0)
    assert found.response_ms[0] == found.response_ms[1]


def test_without_targets_the_rate_is_the_greatest_of_the_range() -> None:
    replicas = models.replicas([1, 8, 300], 128, 64, PARAMETERS)
    service_ms = 60 + 0.02 * 128 * replicas.max_batch + 63 * (19.0 + replicas.max_batch)
    most = 0.999 * 1000 * replicas.max_batch / service_ms
    found = models.size(replicas, models.targets())
    assert found.rate_rps == pytest.approx(most, rel=1e-14)
    assert np.array_equal(found.rate_rps, found.at.max_rate_rps)
    assert np.array_equal(found.rate_rps, found.rate_tps_rps)


def test_a_tps_target_leaves_a_margin_below_the_greatest_rate() -> None:
    replicas = models.replicas(8, 128, 64, PARAMETERS)
    found = models.size(replicas, models.targets(tps=1.0))
    assert found.rate_rps == pytest.approx(0.9 * found.at.max_rate_rps, rel=1e-14)


@pytest.mark.parametrize(
    ("target", "status"),
    [(0.1 + 0.2, SizingStatus.OK), (0.3, SizingStatus.OK), (0.299, SizingStatus.ITL_UNREACHABLE)],
)
def test_a_flat_itl_is_met_everywhere_or_nowhere(target: float, status: SizingStatus) -> None:
    replicas = models.replicas(1, 0, 64, [0.1, 0.2, 0, 0])
    found = models.size(replicas, models.targets(itl_ms=target))
    assert found.status[0] == status
    assert found.rate_rps[0] == (found.at.max_rate_rps[0] if status == SizingStatus.OK else 0)
    assert found.floor_itl_ms[0] == pytest.approx(0.3)


def test_a_ttft_without_wait_and_input_is_zero_and_meets_every_target() -> None:
    found = models.size(models.replicas(8, 0, 64, PARAMETERS, 0), models.targets(ttft_ms=1e-9))
    assert found.status[0] == SizingStatus.OK
    assert found.at.ttft_ms[0] == 0
    assert found.rate_rps[0] == found.at.max_rate_rps[0]


def test_service_that_ignores_the_batch_reports_no_share_of_it() -> None:
    # One output token: the batch slows nothing down when delta is 0, whatever beta is.
    found = models.analyze(models.replicas(8, 128, 1, [19.0, 1.0, 60.0, 0.0]), 100.0)
    assert found.prefill_ms[0] == 60.0
    assert found.itl_ms[0] == 19.0


def test_an_unreachable_target_tells_what_could_be_reached() -> None:
    replicas = models.replicas(8, 128, 64, PARAMETERS)
    found = models.size(
        replicas.take(np.zeros(3, dtype=np.int64)),
        models.targets(itl_ms=[19.5, 0, 5], ttft_ms=[0, 62, 5]),
    )
    assert list(found.status) == [
        SizingStatus.ITL_UNREACHABLE,
        SizingStatus.TTFT_UNREACHABLE,
        SizingStatus.TTFT_UNREACHABLE,
    ]
    assert np.all(found.rate_rps == 0)
    assert np.all(found.floor_itl_ms == pytest.approx(20.0, rel=1e-3))
    assert np.all(found.floor_ttft_ms == pytest.approx(62.56, rel=1e-3))
    assert found.rate_ttft_rps[0] > 0
    assert found.rate_itl_rps[0] == 0


def test_no_pairs_have_no_answers() -> None:
    none = models.replicas([], [], [], np.zeros((0, 4)))
    assert len(models.analyze(none, []).ttft_ms) == 0
    assert len(models.size(none, models.targets([], [], [])).rate_rps) == 0


def test_extreme_loads_raise_no_floating_point_alarm() -> None:
    replicas = fleet(50, 3000)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        for rate in (0.0, 1e-250, 1e-3, 1e3, 1e250):
            assert np.all(np.isfinite(models.analyze(replicas, rate).response_ms))
        models.size(replicas, models.targets(itl_ms=60.0, ttft_ms=500.0))
