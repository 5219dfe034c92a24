from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlloop.errors import InputError
from controlloop.queueing.benchmark_runs import RunKind
from controlloop.tuner.sweeps import Role, read_sweeps


def run(strategy: str, **changed: Any) -> dict[str, Any]:
    point: dict[str, Any] = {
        "strategy": strategy,
        "duration_s": 60.0,
        "requests": 100,
        "rate_rps": 1.5,
        "input_tokens_mean": 512.0,
        "output_tokens_mean": 128.0,
    }
    for name in ("ttft_ms", "itl_ms"):
        point |= {f"{name}_mean": 20.0, f"{name}_p50": 19.0, f"{name}_p90": 25.0}
        point |= {f"{name}_p95": 30.0, f"{name}_p99": 40.0}
    return point | changed


def read(*points: Any) -> Any:
    return read_sweeps({"sweeps": {"a": list(points)}}, max_batch=256, source="file.json")


def test_each_run_has_its_kind_its_role_and_the_rate_that_was_offered() -> None:
    sweeps = read(run("synchronous"), run("throughput"), run("constant@1.75"), run("constant@2.5"))
    assert list(sweeps.role) == [Role.SYNCHRONOUS, Role.SATURATED, Role.CONSTANT, Role.TOP]
    assert list(sweeps.runs.kind) == [
        RunKind.SYNCHRONOUS,
        RunKind.CLOSED,
        RunKind.CONSTANT,
        RunKind.CONSTANT,
    ]
    assert list(sweeps.runs.rate_rps) == [1.5, 1.5, 1.75, 2.5]
    assert list(sweeps.runs.clients) == [256] * 4
    assert sweeps.ttft_percentiles[:, 0].tolist() == [19.0, 25.0, 30.0, 40.0]


@pytest.mark.parametrize(
    "changed",
    [
        {"ttft_ms_mean": -222_574_949.0},
        {"ttft_ms_mean": 2e7},
        {"ttft_ms_mean": float("nan")},
        {"ttft_ms_std": 2e10},
    ],
)
def test_the_median_stands_for_a_mean_that_is_corrupt(changed: dict[str, float]) -> None:
    sweeps = read(run("constant@1", **changed), run("constant@2"))
    assert sweeps.ttft_ms.tolist() == [19.0, 20.0]
    assert sweeps.itl_ms.tolist() == [20.0, 20.0]


def test_every_run_that_cannot_be_read_is_told_at_once() -> None:
    missing = run("constant@1")
    del missing["itl_ms_mean"]
    with pytest.raises(InputError) as caught:
        read(
            run("poisson@1"), missing, 7, run("constant@x"), run("constant@1", duration_s=0),
            run("constant@1", ttft_ms_mean=-1, ttft_ms_p50=0),
        )  # fmt: skip
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("file.json: sweeps.a[0]: is no run: strategy must be one of")
    assert "sweeps.a[1]: is no run: 'itl_ms_mean' is missing" in lines[1]
    assert "sweeps.a[2]: must be an object" in lines[2]
    assert 'sweeps.a[3]: is no run: rate must be a number, got "x"' in lines[3]
    assert "duration_s must be > 0, got 0" in lines[4]


@pytest.mark.parametrize("document", [{}, {"sweeps": {}}, {"sweeps": {"a": []}}])
def test_no_run_at_all_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least one run"):
        read_sweeps(document, max_batch=8)


def test_some_runs_of_all() -> None:
    sweeps = read(run("synchronous"), run("constant@1"), run("constant@2"))
    some = sweeps.take(sweeps.role == Role.CONSTANT)
    assert len(some) == 1
    assert some.runs.rate_rps.tolist() == [1.0]
    assert some.ttft_percentiles.shape == (4, 1)
    assert np.array_equal(some.ttft_ms, [20.0])
