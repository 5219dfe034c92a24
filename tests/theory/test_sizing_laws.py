"""Sizing undoes analysis, and what it gives holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controlloop.api.replicas import FloatArray, Replicas, SizingStatus, Targets
from controlloop.queueing import models

pytestmark = pytest.mark.slow

MODEL = models.queue_models().create("state-dependent")
CLOSE = 2e-9


@st.composite
def fleets(draw: st.DrawFn) -> Replicas:
    """Twenty pairs of all sizes at once, drawn from one seed."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = 20
    batch = np.exp(random.uniform(0, np.log(4096), count)).astype(np.int64)
    return models.replicas(
        max_batch=batch,
        max_queue=np.where(random.random(count) < 0.7, 10 * batch, random.integers(0, 60, count)),
        input_tokens=random.choice([0.0, 16.0, 512.0, 4096.0], count),
        output_tokens=random.choice([1.0, 2.0, 128.0, 2048.0], count),
        parameters=np.column_stack(
            [
                random.uniform(1, 200, count),
                10 ** random.uniform(-3, 1.5, count) * (random.random(count) < 0.9),
                random.uniform(1, 3000, count),
                10 ** random.uniform(-4, 0.5, count) * (random.random(count) < 0.9),
            ]
        ),
    )


def within_range(replicas: Replicas, share: FloatArray) -> FloatArray:
    low, high = MODEL.rate_range_rps(replicas)
    return np.asarray(low ** (1 - share) * high**share)


shares = st.lists(st.floats(0.01, 0.99), min_size=20, max_size=20).map(np.array)
exponents = st.sampled_from([1.0, 0.2, 0.02])


@given(fleets(), shares, exponents)
def test_the_target_that_a_rate_just_meets_gives_back_that_rate(
    replicas: Replicas, share: FloatArray, exponent: float
) -> None:
    rate = within_range(replicas, share**exponent)
    none = np.zeros(len(rate))
    at = MODEL.analyze(replicas, rate)
    for kind in ("itl_ms", "ttft_ms"):
        targets = {"itl_ms": none, "ttft_ms": none, kind: np.nan_to_num(getattr(at, kind))}
        sizing = MODEL.size(replicas, Targets(tps=none, **targets))
        found = sizing.rate_itl_rps if kind == "itl_ms" else sizing.rate_ttft_rps
        asked = targets[kind]
        valid = (asked > 0) & (sizing.status != SizingStatus.INVALID)
        assert np.all(sizing.status[valid] == SizingStatus.OK)
        below = getattr(MODEL.analyze(replicas, found * (1 - CLOSE)), kind)
        above = getattr(MODEL.analyze(replicas, found * (1 + CLOSE)), kind)
        flat = getattr(MODEL.analyze(replicas, within_range(replicas, none + 1)), kind) <= asked
        assert np.all((below <= asked * (1 + 1e-12))[valid])
        assert np.all(((above >= asked * (1 - 1e-12)) | flat)[valid])


@given(fleets(), st.floats(1.0, 20.0), st.floats(1.0, 200.0), st.booleans())
def test_every_target_holds_at_the_rate_and_one_binds(
    replicas: Replicas, itl_factor: float, ttft_factor: float, tps: bool
) -> None:
    count = len(replicas)
    low, high = MODEL.rate_range_rps(replicas)
    floor = MODEL.size(replicas, no_targets(count))
    targets = Targets(
        itl_ms=np.nan_to_num(floor.floor_itl_ms * itl_factor),
        ttft_ms=np.nan_to_num(floor.floor_ttft_ms * ttft_factor),
        tps=np.full(count, float(tps)),
    )
    sizing = MODEL.size(replicas, targets)
    done = sizing.status == SizingStatus.OK
    assume(done.any())
    assert np.all(done | (sizing.status == SizingStatus.INVALID))
    rate = sizing.rate_rps[done]
    at = sizing.at
    slack = 1 + 1e-9
    assert np.all(at.itl_ms[done] <= targets.itl_ms[done] * slack)
    wanted = targets.ttft_ms[done]
    assert np.all((at.ttft_ms[done] <= wanted * slack) | (wanted == 0))
    cap = high[done] * (0.9 if tps else 1.0)
    assert np.all((rate >= low[done] * (1 - 1e-12)) & (rate <= cap))
    more = MODEL.analyze(replicas.take(done), rate * (1 + 1e-6))
    broken = (more.itl_ms > targets.itl_ms[done]) | ((more.ttft_ms > wanted) & (wanted > 0))
    assert np.all(broken | (rate == cap) | np.isclose(rate, low[done]))


def no_targets(count: int) -> Targets:
    return Targets(np.zeros(count), np.zeros(count), np.zeros(count))


@given(fleets(), st.floats(0.5, 0.999))
def test_a_target_below_its_floor_is_out_of_reach(replicas: Replicas, factor: float) -> None:
    count = len(replicas)
    none = np.zeros(count)
    floor = MODEL.size(replicas, no_targets(count))
    by_itl = MODEL.size(replicas, Targets(floor.floor_itl_ms * factor, none, none))
    ttft = floor.floor_ttft_ms * factor
    by_ttft = MODEL.size(replicas, Targets(none, np.nan_to_num(ttft), none))
    valid = ~np.isnan(floor.floor_itl_ms)
    assert np.all(by_itl.status[valid] == SizingStatus.ITL_UNREACHABLE)
    assert np.all(by_ttft.status[ttft > 0] == SizingStatus.TTFT_UNREACHABLE)
    assert np.all(by_itl.rate_rps == 0)
    assert np.all(np.isnan(by_itl.at.itl_ms))
