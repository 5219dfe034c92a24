"""Draws docs/images/forecast.png and prints the table of docs/forecast.md.

    python scripts/make_forecast_picture.py [TRACE.csv]

TRACE.csv has a column TIMESTAMP with the time of each request.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.predictions import PREDICTORS
from controlloop.api.readings import Present
from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.cli.picture_style import BLUE, INK, MUTED, ORANGE, PALE, head, style
from controlloop.forecast.ensemble import EnsembleForecaster
from controlloop.forecast.options import ForecastOptions
from controlloop.forecast.predictors import predictors
from controlloop.forecast.tracking import pinball

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "forecast.png"
LEVELS = np.array([0.1, 0.5, 0.9, 0.95])
PERIOD_S = 60.0
SHOWN = 3


def traces(recorded: Path | None) -> dict[str, FloatArray]:
    """Requests/s by minute."""
    rng = np.random.default_rng(21)
    minutes = np.arange(2 * 1440)
    wander = np.zeros(len(minutes))
    for minute in minutes[1:]:
        wander[minute] = 0.99 * wander[minute - 1] + 0.02 * rng.standard_normal()
    day = (5.0 + 4.0 * np.cos(2.0 * np.pi * (minutes / 1440.0 - 0.6))) * np.exp(wander)
    burst = np.full(1440, 2.0)
    for minute in range(1, len(burst)):
        stays = burst[minute - 1] > 10 and rng.random() < 0.6
        burst[minute] = 20.0 if stays or rng.random() < 0.1 else 2.0
    rates = {
        "diurnal": day,
        "step": np.where(minutes[:1440] // 120 % 2, 10.0, 2.0),
        "bursts": burst,
    }
    found: dict[str, FloatArray] = {
        name: rng.poisson(one * PERIOD_S) / PERIOD_S for name, one in rates.items()
    }
    if recorded is not None:
        with recorded.open() as file:
            times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(file)]
        counted = [int((time - times[0]).total_seconds() // PERIOD_S) for time in times]
        found["recorded"] = np.bincount(counted)[:-1] / PERIOD_S
    return found


def forecasts(
    names: tuple[str, ...], shown: Mapping[str, FloatArray], steps: int
) -> dict[str, FloatArray]:
    """(minutes, levels) what was said of each minute `steps` before; NaN where nothing was."""
    known = predictors()
    options = ForecastOptions(period_s=PERIOD_S, startup_s=(steps - 1) * PERIOD_S)
    forecaster = EnsembleForecaster([known.create(name) for name in names], options)
    said = {name: np.full((len(one), len(LEVELS)), np.nan) for name, one in shown.items()}
    for slot in range(max(map(len, shown.values()))):
        now = (slot + 1) * PERIOD_S
        servers = tuple(
            ServerObservation(
                Workload(WorkloadRef("n", name), name, "m", "Free", "A100", 32, 1),
                Signals(Present(one[slot]), input_tokens=Present(1.0), output_tokens=Present(1.0)),
            )
            for name, one in shown.items()
            if slot < len(one)
        )
        found = forecaster.forecast(now, Observation(now, servers))
        for name, one in found.predictions.items():
            if one.quantiles_rps and slot + steps < len(shown[name]):
                said[name][slot + steps] = [one.quantiles_rps[level] for level in LEVELS]
    return said


def loss(said: FloatArray, trace: FloatArray, where: BoolArray) -> float:
    """Mean pinball loss."""
    return float(pinball(said, trace[:, None], LEVELS)[where].mean())


def main() -> int:
    """Draw and print."""
    shown = traces(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    sys.stdout.write("| trace | ahead | last value | with its own spread | ensemble | |\n")
    for steps in (1, 3, 6):
        ours = forecasts(PREDICTORS, shown, steps)
        spread = forecasts((), shown, steps)
        for name, trace in shown.items():
            where = ~np.isnan(ours[name][:, 0]) & ~np.isnan(spread[name][:, 0])
            before = np.concatenate([np.full(steps, np.nan), trace[:-steps]])
            plain = np.repeat(before[:, None], len(LEVELS), axis=1)
            found = [loss(one, trace, where) for one in (plain, spread[name], ours[name])]
            cells = " | ".join(f"{one:.3f}" for one in found)
            sys.stdout.write(f"| {name} | {steps} min | {cells} | {found[2] / found[1]:.2f} |\n")
        if steps == SHOWN:
            draw(shown, ours)
    return 0


def draw(shown: Mapping[str, FloatArray], said: Mapping[str, FloatArray]) -> None:
    """A panel a trace: what came, and the band that was said of it before."""
    figure = Figure(figsize=(11.0, 2.5 * len(shown)), dpi=80, facecolor="white")
    figure.set_layout_engine("constrained")
    for axes, (name, trace) in zip(
        figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown.items(), strict=True
    ):
        style(axes)
        head(axes, f"{name}: requests/s by minute, and what was expected {SHOWN} minutes before")
        part = slice(max(len(trace) - 360, 0), len(trace))
        at = np.arange(len(trace))[part]
        low, middle, _, high = said[name][part].T
        axes.fill_between(at, low, high, color=PALE, linewidth=0, label="10 % to 95 %")
        axes.plot(at, high, color=ORANGE, linewidth=1.3, label="95 %: sized for at least")
        axes.plot(at, middle, color=BLUE, linewidth=1.0, label="median")
        axes.plot(at, trace[part], ".", color=INK, markersize=3, label="measured")
        axes.set_xlim(at[0], at[-1])
        # Room for the legend above what it explains.
        axes.set_ylim(0, 1.3 * max(np.nanmax(high), trace[part].max()))
        axes.set_xlabel("minute", color=MUTED, fontsize=8)
        axes.legend(fontsize=8, frameon=False, ncols=4, loc="upper left")
    figure.savefig(OUTPUT)


if __name__ == "__main__":
    sys.exit(main())
