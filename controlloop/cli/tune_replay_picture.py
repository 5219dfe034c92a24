"""The picture of `tune replay`: latencies observed and predicted, errors, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from controlloop.api.estimates import PairEstimate, Trust
from controlloop.cli.picture_style import BLUE, INK, MUTED, ORANGE, PALE, WARNING, head, style
from controlloop.tuner.pairs import PairName
from controlloop.tuner.replay import Replay, Step

MOST_PAIRS: Final = 4
_FLOOR: Final = 1e-4


def draw(replay: Replay, path: Path) -> None:
    """Write the picture to `path`: a column for each of the first pairs.

    Raises:
        OSError: the file cannot be written.

    """
    pairs = replay.pairs[:MOST_PAIRS]
    figure = Figure(
        figsize=(6.2 * len(pairs), 9.0), dpi=80, facecolor="white", layout="constrained"
    )
    grid = figure.subplots(4, len(pairs), sharex="col", squeeze=False)
    for column, pair in enumerate(pairs):
        _column(list(grid[:, column]), pair, replay.of(pair))
    figure.savefig(path)


def _column(axes: Sequence[Axes], pair: PairName, steps: Sequence[Step]) -> None:
    for one in axes:
        style(one)
        _doubts(one, steps)
    _latency(axes[0], f"{pair[0]} on {pair[1]}: TTFT, ms", steps, "ttft")
    _latency(axes[1], "ITL, ms", steps, "itl")
    _errors(axes[2], steps)
    _parameters(axes[3], steps)
    axes[3].set_xlabel("observation (shaded: not trusted)", color=MUTED)
    axes[3].set_xlim(0, max(len(steps), 2))


def _doubts(axes: Axes, steps: Sequence[Step]) -> None:
    """Shade where the pair was not trusted."""
    for place, step in enumerate(steps):
        if step.after is None or step.after.trust is not Trust.TRUSTED:
            axes.axvspan(place, place + 1, color=PALE, linewidth=0)


def _latency(axes: Axes, title: str, steps: Sequence[Step], which: str) -> None:
    places, observed, predicted, refused = [], [], [], []
    for place, step in enumerate(steps):
        values = _compared(step, which)
        if values is not None:
            places.append(place)
            observed.append(values[0])
            predicted.append(values[1])
            refused.append(step.outcome == "outlier")
    head(axes, title)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1, 0.4)))
    out = np.array(refused, dtype=np.bool_)
    at, seen = np.array(places), np.array(observed)
    axes.plot(at[~out], seen[~out], ".", color=INK, markersize=3, label="observed")
    axes.plot(at[out], seen[out], "x", color=WARNING, markersize=5, label="outlier")
    axes.plot(at, predicted, "-", color=BLUE, linewidth=0.9, label="predicted one step ahead")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _errors(axes: Axes, steps: Sequence[Step]) -> None:
    head(axes, "Relative error of the predictions")
    for which, color in (("ttft", ORANGE), ("itl", BLUE)):
        found = [(place, _compared(step, which)) for place, step in enumerate(steps)]
        known = [(place, abs(one[1] / one[0] - 1)) for place, one in found if one is not None]
        if known:
            at, errors = zip(*known, strict=True)
            shown = np.maximum(errors, _FLOOR)
            axes.plot(at, shown, ".", color=color, markersize=3, label=which.upper())
    axes.set_yscale("log")
    axes.set_ylim(bottom=_FLOOR)
    axes.yaxis.set_major_formatter(lambda value, _place: f"{100 * value:g}%")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _parameters(axes: Axes, steps: Sequence[Step]) -> None:
    """Each parameter as a share of its last value, with one standard error."""
    head(axes, "Parameters, as a share of their last value")
    known: list[tuple[int, PairEstimate]] = [
        (place, step.after) for place, step in enumerate(steps) if step.after is not None
    ]
    if not known:
        return
    at = [place for place, _ in known]
    last = known[-1][1]
    for number, name in enumerate(last.parameter_names):
        if last.parameters[number] <= 0:
            continue
        color = colormaps["tab10"](number % 10)
        share = np.array([one.parameters[number] for _, one in known]) / last.parameters[number]
        error = np.exp([one.standard_errors[number] for _, one in known])
        axes.plot(at, share, "-", color=color, linewidth=1.2, label=name)
        axes.fill_between(at, share / error, share * error, color=color, alpha=0.12, linewidth=0)
    axes.set_yscale("log")
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="best")


def _compared(step: Step, which: str) -> tuple[float, float] | None:
    """Observed and predicted, where both are known."""
    one = step.compared
    if one is None:
        return None
    values = (
        (one.observed_ttft_ms, one.predicted_ttft_ms)
        if which == "ttft"
        else (one.observed_itl_ms, one.predicted_itl_ms)
    )
    return None if values[0] is None or values[1] is None else (values[0], values[1])
