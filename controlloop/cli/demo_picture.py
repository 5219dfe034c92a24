"""The demo's picture: load, replicas, cost against the fixed fleet, attainment over the day."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from controlloop.api.replicas import FloatArray
from controlloop.api.system import System
from controlloop.cli.demo_words import CENTS_PER_DOLLAR, dollars
from controlloop.cli.picture_style import BLUE, INK, MUTED, ORANGE, PALE, WARNING, head, style
from controlloop.simulator.demo import DemoResult
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.scoring import cost_rate
from controlloop.units import hours_from_s

SMOOTH_S: Final = 300.0
ATTAINMENT_S: Final = 900.0

FIXED, OURS, SAVED = WARNING, BLUE, PALE
TTFT, ITL = BLUE, ORANGE
# One family of colours a class, in order of priority.
FAMILIES: Final = ("Blues", "Oranges", "Greens", "Purples", "Greys")


def draw(result: DemoResult, path: Path) -> None:
    """Write the picture to `path`; its suffix says whether as PNG or SVG.

    Raises:
        OSError: the file cannot be written.

    """
    figure = Figure(figsize=(11, 10.2), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, height_ratios=[1.15, 1.15, 1.0, 0.85])
    load, replicas, cost, attainment = axes
    _load(load, result)
    _replicas(replicas, result)
    _cost(cost, result)
    _attainment(attainment, result)
    pace = result.options.pace
    hours = result.controlled.score.hours * pace
    for one in axes:
        style(one)
        one.set_xlim(0, hours)
    at_pace = "" if pace == 1.0 else f", which passes at {pace:g} times its pace"
    attainment.set_xlabel(f"hour of the day{at_pace}", color=MUTED)
    attainment.set_xticks(_ticks(hours))
    figure.suptitle(_title(result), color=INK, fontsize=14, fontweight="bold")
    figure.savefig(path)


def _title(result: DemoResult) -> str:
    within = result.controlled.score.overall.within_both
    cheaper = f"{abs(result.saving):.0%} {'cheaper' if result.saving >= 0 else 'dearer'}"
    return f"{cheaper} than a fleet fixed at its peak, {within:.1%} of requests within objectives"


def _load(axes: Axes, result: DemoResult) -> None:
    history = result.controlled.history
    hours, rates = _binned(result, history.rate_rps, SMOOTH_S)
    order, colors = _palette(history.servers, result.catalog)
    names = [f"{history.servers[at].name}  ({history.servers[at].service_class})" for at in order]
    axes.stackplot(hours, rates[:, order].T, colors=colors, labels=names, linewidth=0)
    head(axes, "Load, requests/s")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        labels[::-1],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )


def _replicas(axes: Axes, result: DemoResult) -> None:
    history = result.controlled.history
    order, colors = _palette(history.servers, result.catalog)
    hours, held = _binned(result, history.held.astype(np.float64), SMOOTH_S)
    axes.stackplot(hours, held[:, order].T, colors=colors, linewidth=0)
    fixed = float(np.max(np.sum(result.fixed.history.held, axis=1)))
    axes.axhline(fixed, color=FIXED, linestyle=(0, (5, 3)), linewidth=1.4)
    _note(axes, fixed, f"fixed at its peak: {fixed:.0f}")
    axes.set_ylim(0, fixed * 1.18)
    head(axes, "Replicas, mean of each five minutes")


def _cost(axes: Axes, result: DemoResult) -> None:
    history = result.controlled.history
    hours = hours_from_s(result.options.pace) * history.times
    ours = cost_rate(history, result.catalog) / CENTS_PER_DOLLAR
    fixed = cost_rate(result.fixed.history, result.catalog) / CENTS_PER_DOLLAR
    axes.fill_between(
        hours, ours, fixed, where=fixed >= ours, color=SAVED, step="post", linewidth=0
    )
    axes.plot(hours, fixed, color=FIXED, linestyle=(0, (5, 3)), linewidth=1.4)
    axes.plot(hours, ours, color=OURS, linewidth=1.3, drawstyle="steps-post")
    top = float(np.max(fixed))
    _note(axes, top, f"fixed at its peak: {dollars(result.fixed.score.cost)}")
    text = f"with controlloop: {dollars(result.controlled.score.cost)}"
    axes.text(0.01, 0.06, text, transform=axes.transAxes, color=OURS, fontsize=9.5)
    axes.set_ylim(0, top * 1.18)
    head(axes, "Cost, $/hour")


def _attainment(axes: Axes, result: DemoResult) -> None:
    history = result.controlled.history
    hours, arrived = _binned(result, history.arrived, ATTAINMENT_S)
    everything = np.maximum(arrived.sum(axis=1), 1e-9)
    lowest = 1.0
    score = result.controlled.score.overall
    for within, color, name, share in (
        (history.within_ttft, TTFT, "TTFT", score.within_ttft),
        (history.within_itl, ITL, "ITL", score.within_itl),
    ):
        _, good = _binned(result, within, ATTAINMENT_S)
        line = np.where(arrived.sum(axis=1) > 0, good.sum(axis=1) / everything, 1.0)
        lowest = min(lowest, float(line.min()))
        axes.plot(hours, 100 * line, color=color, linewidth=1.5, label=f"{name}: {share:.2%}")
    axes.set_ylim(100 * min(lowest - 0.01, 0.95), 100.4)
    head(axes, "Requests within their objective, % of each quarter of an hour")
    axes.legend(loc="lower left", frameon=False, fontsize=9, labelcolor=INK, ncols=2)


def _note(axes: Axes, height: float, text: str) -> None:
    """A note on the line of the fixed fleet."""
    place = blended_transform_factory(axes.transAxes, axes.transData)
    axes.annotate(
        text,
        (0.01, height),
        xycoords=place,
        xytext=(0, 4),
        textcoords="offset points",
        color=FIXED,
        fontsize=9.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def _palette(
    servers: tuple[PlantServer, ...], catalog: System
) -> tuple[list[int], list[tuple[float, float, float, float]]]:
    """Positions of the servers by class, and a colour for each."""
    ranked = [one.name for one in sorted(catalog.classes, key=lambda one: one.priority)]
    order: list[int] = []
    colors: list[tuple[float, float, float, float]] = []
    for rank, name in enumerate(ranked):
        members = [at for at, one in enumerate(servers) if one.service_class == name]
        family = colormaps[FAMILIES[min(rank, len(FAMILIES) - 1)]]
        order += members
        colors += [family(shade) for shade in np.linspace(0.8, 0.35, len(members))]
    return order, colors


def _binned(
    result: DemoResult, values: FloatArray, window_s: float
) -> tuple[FloatArray, FloatArray]:
    """Hours of the day at the middle of each window, and the mean of `values` (steps, n) in it."""
    step_s = result.controlled.history.step_s * result.options.pace
    width = min(max(round(window_s / step_s), 1), len(values))
    windows = len(values) // width
    means = values[: windows * width].reshape(windows, width, -1).mean(axis=1)
    middles = np.arange(windows, dtype=np.float64) + 0.5
    return middles * (width * hours_from_s(step_s)), means


def _ticks(hours: float) -> list[float]:
    step = next((each for each in (0.25, 0.5, 1, 2, 3, 6, 12) if hours / each <= 12), 24)
    return [step * at for at in range(int(hours / step) + 1)]
