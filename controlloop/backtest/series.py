"""A run thinned out for pictures: means over equal bins, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.backtest.metrics import cost_cents_per_hour, within_objectives
from controlloop.backtest.run import Run

MOST_BINS: Final = 240
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A run over time: arrays are (bins, servers) or (bins,), at the bins' middles `hours`.

    `attained` is the share of requests within both objectives, NaN where none arrived.
    `outlook_hours`, `seen_rps` and `sized_rps` are what the loop saw and sized for, at each of
    its cycles: (cycles,) and (cycles, servers); `mean_rps`, `low_rps` and `high_rps` what it
    predicted for `ahead_hours` later, NaN where nothing. All are empty for others.
    """

    servers: tuple[str, ...]
    hours: FloatArray
    warm_up_hours: float
    rate_rps: FloatArray
    ready: FloatArray
    held: FloatArray
    waiting: FloatArray
    attained: FloatArray
    cost_per_hour: FloatArray
    outlook_hours: FloatArray
    seen_rps: FloatArray
    sized_rps: FloatArray
    mean_rps: FloatArray
    low_rps: FloatArray
    high_rps: FloatArray
    ahead_hours: FloatArray


def series_of(run: Run) -> Series:
    """Thin out a run; costs in dollars/hour."""
    steps = len(run.times)
    width = max(-(-steps // MOST_BINS), 1)
    starts = np.arange(0, steps, width)
    sizes = np.diff(np.append(starts, steps))

    def mean(values: FloatArray) -> FloatArray:
        sums = np.add.reduceat(values, starts, axis=0)
        return np.asarray(sums / (sizes if values.ndim == 1 else sizes[:, None]))

    names = tuple(one.name for one in run.scenario.servers)
    return Series(
        servers=names,
        hours=mean(run.times - run.step_s / 2) / 3600.0,
        warm_up_hours=run.scenario.from_s / 3600.0,
        rate_rps=mean(run.arrived) / run.step_s,
        ready=mean(run.ready.astype(np.float64)),
        held=mean(run.held.astype(np.float64)),
        waiting=np.maximum.reduceat(run.waiting, starts, axis=0),
        attained=_attained(run, np.append(run.times[starts] - run.step_s, run.times[-1])),
        cost_per_hour=mean(cost_cents_per_hour(run)) / 100.0,
        **_outlooks(run),
    )


def series_document(series: Series) -> dict[str, Any]:
    """As JSON; NaN is null."""
    return {
        "servers": list(series.servers),
        "warmUpHours": series.warm_up_hours,
        **{name: _plain(getattr(series, name)) for name in _ARRAYS},
    }


def series_from(document: dict[str, Any]) -> Series:
    """Read what `series_document` wrote."""
    arrays = {name: np.array(document[name], dtype=np.float64) for name in _ARRAYS}
    return Series(
        servers=tuple(document["servers"]), warm_up_hours=document["warmUpHours"], **arrays
    )


_ARRAYS: Final = (
    "hours",
    "rate_rps",
    "ready",
    "held",
    "waiting",
    "attained",
    "cost_per_hour",
    "outlook_hours",
    "seen_rps",
    "sized_rps",
    "mean_rps",
    "low_rps",
    "high_rps",
    "ahead_hours",
)


def _attained(run: Run, edges: FloatArray) -> FloatArray:
    served = run.served
    ttft, itl = within_objectives(run)
    every = np.histogram(served.time, edges, weights=served.weight)[0]
    good = np.histogram(served.time, edges, weights=served.weight * (ttft & itl))[0]
    return np.where(every > 0, good / np.maximum(every, 1e-12), np.nan)


def _outlooks(run: Run) -> dict[str, FloatArray]:
    names = {one.name: column for column, one in enumerate(run.scenario.servers)}
    times = sorted({one.time for one in run.outlooks})
    row = {time: index for index, time in enumerate(times)}
    found = {
        name: np.full((len(times), len(names)), np.nan)
        for name in ("seen_rps", "sized_rps", "mean_rps", "low_rps", "high_rps", "horizon_s")
    }
    for one in run.outlooks:
        for name, values in found.items():
            values[row[one.time], names[one.server]] = getattr(one, name)
    horizon_s = found.pop("horizon_s")
    return found | {
        "outlook_hours": np.array(times) / 3600.0,
        "ahead_hours": np.nan_to_num(horizon_s) / 3600.0,
    }


def _plain(values: FloatArray) -> list[Any]:
    rounded = np.round(values, _DIGITS)
    plain: list[Any] = np.where(np.isnan(rounded), None, rounded.astype(object)).tolist()  # type: ignore[call-overload]
    return plain
