"""Latencies measured on vLLM, predicted by parameters that never saw the shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlloop.queueing.iteration_time import IterationTime
from controlloop.queueing.mm1k import SingleServer
from controlloop.queueing.roofline import LENGTH_CV, Roofline
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.fit import Fit, weighted_error
from controlloop.tuner.sweep_fit import (
    HeldOut,
    RunModel,
    fit_sweeps,
    leave_one_shape_out,
    sweep_percentiles,
)
from controlloop.tuner.sweeps import Role, Sweeps, read_sweeps

pytestmark = pytest.mark.slow

NAME = "measured/vllm-llama-3.1-8b-sweeps.json"
COLUMNS = (
    (Role.CONSTANT,),
    (Role.TOP,),
    (Role.SATURATED,),
    (Role.TOP, Role.SATURATED),
    (Role.SYNCHRONOUS,),
)


@pytest.fixture(scope="module")
def sweeps(shared_json: Callable[[str], Any]) -> Sweeps:
    return read_sweeps(shared_json(NAME), max_batch=512, source=NAME)


@pytest.fixture(scope="module")
def held_out(sweeps: Sweeps) -> HeldOut:
    return leave_one_shape_out(Roofline(), sweeps)


def test_the_sweeps_are_read_with_their_corrupt_means_replaced(sweeps: Sweeps) -> None:
    assert len(sweeps.shapes) == 8
    assert [int((sweeps.role == role).sum()) for role in Role] == [8, 56, 8, 8]
    medians = sweeps.ttft_percentiles[0] == sweeps.ttft_ms
    assert [sweeps.shapes[shape] for shape in sweeps.shape[medians]] == ["sweep-i256-o256"] * 2


def test_the_code_that_fits_never_sees_the_shape_left_out(sweeps: Sweeps) -> None:
    seen: list[set[int]] = []

    def spy(model: RunModel, others: Sweeps) -> Fit:
        seen.append(set(others.shape.tolist()))
        assert len(others) == 70
        return fit_sweeps(model, others.take(np.arange(9)))

    leave_one_shape_out(IterationTime(), sweeps, spy)
    assert seen == [set(range(8)) - {shape} for shape in range(8)]


def test_unseen_shapes_below_saturation(held_out: HeldOut) -> None:
    ttft, itl = held_out.errors(Role.CONSTANT)
    assert ttft <= 0.08
    assert itl <= 0.045


@pytest.mark.parametrize("roles", [(Role.TOP,), (Role.SATURATED,), (Role.TOP, Role.SATURATED)])
def test_unseen_shapes_at_saturation(held_out: HeldOut, roles: tuple[Role, ...]) -> None:
    ttft, itl = held_out.errors(*roles)
    assert ttft <= 0.25
    assert itl <= 0.20


def test_parameters_hardly_depend_on_the_shapes_they_are_fitted_on(held_out: HeldOut) -> None:
    fits = list(held_out.fits.values())
    assert all(each.converged for each in fits)
    spread = np.std([np.log(each.values) for each in fits], axis=0)
    assert dict(zip(fits[0].names, (spread < 0.15).tolist(), strict=True)) == dict.fromkeys(
        fits[0].names, True
    )


def test_percentiles_of_unseen_shapes(sweeps: Sweeps, held_out: HeldOut) -> None:
    ttft, itl = np.full((4, len(sweeps)), np.nan), np.full((4, len(sweeps)), np.nan)
    for shape, each in held_out.fits.items():
        own = np.flatnonzero(sweeps.shape == sweeps.shapes.index(shape))
        found = sweep_percentiles(Roofline(), each.values, sweeps.take(own), LENGTH_CV)
        ttft[:, own], itl[:, own] = found.ttft_ms, found.itl_ms
    rows = sweeps.role == Role.CONSTANT
    errors = [
        [weighted_error(p[rows], m[rows]) for p, m in zip(predicted, measured, strict=True)]
        for predicted, measured in (
            (ttft, sweeps.ttft_percentiles),
            (itl, sweeps.itl_percentiles),
        )
    ]
    # P99 of TTFT is that of the runs' stalls, which no stationary model has.
    assert np.all(np.array(errors[0][:3]) <= 0.06)
    assert errors[0][3] <= 0.35
    assert np.all(np.array(errors[1]) <= 0.11)


def test_the_documented_table_is_what_comes_out(
    sweeps: Sweeps, held_out: HeldOut, root: Path
) -> None:
    page = (root / "docs" / "models.md").read_text()
    found = {"roofline": held_out} | {
        model.name: leave_one_shape_out(model, sweeps)
        for model in (StateDependent(), IterationTime(), SingleServer())
    }
    for name, held in found.items():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` | .")]
        told = [float(number) for number in re.findall(r"\d*\.\d+", rows[0])]
        came = [error for roles in COLUMNS for error in held.errors(*roles)]
        assert told == pytest.approx(came, abs=0.002), name
