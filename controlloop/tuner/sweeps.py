"""Measured sweeps: benchmark runs of one model on one accelerator, over shapes and rates.

A sweep has one shape (mean input and output tokens) and a run for each load. Runs come from
files in the form of guidellm's results reduced to one record a run; see `read_sweeps`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.api.rules import shown
from controlloop.errors import InputError, Problem
from controlloop.queueing.benchmark_runs import RunKind, Runs

# A mean or a standard deviation beyond this is not a latency: clocks were taken for times.
MOST_CREDIBLE_MS: Final = 1e7
PERCENTILES: Final = (0.5, 0.9, 0.95, 0.99)

_SYNCHRONOUS, _CLOSED, _CONSTANT = "synchronous", "throughput", "constant"


class Role(IntEnum):
    """What a run is in its sweep."""

    SYNCHRONOUS = 0
    CONSTANT = 1
    TOP = 2
    SATURATED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Sweeps:
    """n runs; each array is (n,) but for the percentiles.

    Attributes:
        shape: position of the run's shape in `shapes`.
        shapes: names of the shapes.
        role: a `Role`: the constant run of the highest rate of a shape is its top.
        runs: how the clients sent.
        max_batch: requests in service at most.
        input_tokens: mean tokens of a prompt, as sent.
        output_tokens: mean tokens of an answer, as received.
        ttft_ms: mean time to first token; the median where the mean is corrupt.
        itl_ms: mean time between tokens; likewise.
        ttft_percentiles: (4, n) at `PERCENTILES`.
        itl_percentiles: (4, n) at `PERCENTILES`.

    """

    shape: IntArray
    shapes: tuple[str, ...]
    role: IntArray
    runs: Runs
    max_batch: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    ttft_percentiles: FloatArray
    itl_percentiles: FloatArray

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, rows: IntArray | BoolArray) -> Sweeps:
        """The runs at `rows`; shapes keep their positions."""
        return Sweeps(
            shape=self.shape[rows],
            shapes=self.shapes,
            role=self.role[rows],
            runs=self.runs.take(rows),
            max_batch=self.max_batch[rows],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            ttft_ms=self.ttft_ms[rows],
            itl_ms=self.itl_ms[rows],
            ttft_percentiles=self.ttft_percentiles[:, rows],
            itl_percentiles=self.itl_percentiles[:, rows],
        )


def read_sweeps(document: Mapping[str, Any], *, max_batch: int, source: str = "") -> Sweeps:
    """Sweeps from {"sweeps": {shape: [run, ...]}}.

    A run has `strategy` (synchronous, throughput or constant@RATE), `duration_s`, `rate_rps`,
    `input_tokens_mean`, `output_tokens_mean`, `ttft_ms_mean`, `ttft_ms_p50` ... `_p99`, and the
    same of `itl_ms`; `ttft_ms_std` and `itl_ms_std` where there are any. One of throughput may
    say its `clients`, or what tells them (see `clients_of`); else they are as many as the batch.

    The rate offered is the one in the strategy's name: completed requests by duration fall
    short of it by those still under way at the end, up to a fifth for long answers. A mean is
    corrupt, and its median taken, where it or its standard deviation is not finite, above
    `MOST_CREDIBLE_MS` or, the mean, not positive.

    Args:
        document: what a JSON parser gives.
        max_batch: requests in service at most in the server that was measured.
        source: where it comes from, for messages.

    Raises:
        InputError: every run that cannot be read.

    """
    problems: list[Problem] = []
    records: list[dict[str, float]] = []
    shapes = tuple(document.get("sweeps") or {})
    for at, shape in enumerate(shapes):
        records += _records(document["sweeps"][shape], at, max_batch, f"sweeps.{shape}", problems)
    if not records and not problems:
        problems.append(Problem("sweeps", "must hold at least one run"))
    if problems:
        raise InputError(problems, source)

    def column(name: str) -> FloatArray:
        return np.array([record[name] for record in records], dtype=np.float64)

    def whole(name: str) -> IntArray:
        return column(name).astype(np.int64)

    return Sweeps(
        shape=whole("shape"),
        shapes=shapes,
        role=whole("role"),
        runs=Runs(
            kind=whole("kind"),
            rate_rps=column("rate_rps"),
            duration_s=column("duration_s"),
            clients=column("clients"),
        ),
        max_batch=np.full(len(records), max_batch, dtype=np.int64),
        input_tokens=column("input_tokens"),
        output_tokens=column("output_tokens"),
        ttft_ms=column("ttft_ms"),
        itl_ms=column("itl_ms"),
        ttft_percentiles=np.array([column(f"ttft_ms_p{_percent(p)}") for p in PERCENTILES]),
        itl_percentiles=np.array([column(f"itl_ms_p{_percent(p)}") for p in PERCENTILES]),
    )


def _records(
    points: Any, shape: int, max_batch: int, place: str, problems: list[Problem]
) -> list[dict[str, float]]:
    """The runs of one shape, the top one marked."""
    found = []
    for at, point in enumerate(points if isinstance(points, list) else [points]):
        if not isinstance(point, Mapping):
            problems.append(Problem(f"{place}[{at}]", "must be an object, which a run is"))
            continue
        try:
            found.append(_record(point, shape, max_batch))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(Problem(f"{place}[{at}]", f"is no run: {_words(error)}"))
    constant = [each for each in found if each["kind"] == RunKind.CONSTANT]
    if constant:
        max(constant, key=lambda each: each["rate_rps"])["role"] = Role.TOP
    return found


def _words(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _record(point: Mapping[str, Any], shape: int, max_batch: int) -> dict[str, float]:
    strategy, _, label = str(point["strategy"]).partition("@")
    roles = {
        _SYNCHRONOUS: (RunKind.SYNCHRONOUS, Role.SYNCHRONOUS),
        _CLOSED: (RunKind.CLOSED, Role.SATURATED),
        _CONSTANT: (RunKind.CONSTANT, Role.CONSTANT),
    }
    if strategy not in roles:
        raise ValueError(f'strategy must be one of {", ".join(roles)}, got "{strategy}"')
    kind, role = roles[strategy]
    record: dict[str, float] = {
        "shape": shape,
        "kind": kind,
        "role": role,
        "rate_rps": _positive(label or point["rate_rps"], "rate"),
        "duration_s": _positive(point["duration_s"], "duration_s"),
        "clients": clients_of(point) or max_batch,
        "input_tokens": _positive(point["input_tokens_mean"], "input_tokens_mean"),
        "output_tokens": _positive(point["output_tokens_mean"], "output_tokens_mean"),
        "ttft_ms": _mean_ms(point, "ttft_ms"),
        "itl_ms": _mean_ms(point, "itl_ms"),
    }
    for name in ("ttft_ms", "itl_ms"):
        for level in PERCENTILES:
            key = f"{name}_p{_percent(level)}"
            record[key] = _number(point.get(key, math.nan), key)
    return record


def clients_of(run: Mapping[str, Any]) -> int | None:
    """How many clients sent at once in a closed run; None where nothing tells.

    `clients` says it. Otherwise at the end of the run each client has a request under way, which
    is `incomplete`; a run that ended with its last request has none, and then, as ever, there
    were no fewer clients than requests in flight on average, `concurrency_mean`.
    """
    if "clients" in run:
        return round(_positive(run["clients"], "clients"))
    told = [_number(run.get(name) or 0.0, name) for name in ("incomplete", "concurrency_mean")]
    most = max(each if math.isfinite(each) else 0.0 for each in told)
    return math.ceil(most) if most > 0 else None


def _mean_ms(point: Mapping[str, Any], name: str) -> float:
    mean = _number(point[f"{name}_mean"], f"{name}_mean")
    deviation = _number(point.get(f"{name}_std") or 0.0, f"{name}_std")
    if 0 < mean <= MOST_CREDIBLE_MS and deviation <= MOST_CREDIBLE_MS:
        return mean
    return _positive(point[f"{name}_p50"], f"{name}_p50")


def _positive(value: Any, name: str) -> float:
    number = _number(value, name)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be > 0, got {value}")
    return number


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {shown(value)}") from None


def _percent(level: float) -> int:
    return round(100 * level)
