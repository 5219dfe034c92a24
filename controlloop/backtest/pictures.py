"""The report's pictures as inline SVG: a frontier, and each policy's course beside the load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from controlloop.backtest.plan import Question, Verdict
from controlloop.backtest.series import Series, series_from
from controlloop.backtest.summary import Contest
from controlloop.backtest.tuning import frontier

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
# This loop stands out; the others are told apart by colour and by name beside their lines.
COLORS: Final = {
    "loop": "#1b6ca8",
    "loop-tuned": "#62a3d4",
    "hpa-concurrency": "#d1892b",
    "hpa-queue": "#b3541e",
    "keda-rate": "#3a7d44",
    "kpa": "#8e5ea2",
    "static-peak": "#6b7785",
    "clairvoyant": "#1f2933",
}
_SPARE: Final = ("#c2185b", "#00897b", "#7cb342", "#5d4037")


def contest_pictures(contest: Contest, question: Question) -> list[str]:
    """SVG texts: the frontier, what all did over time, then the loop's own view."""
    shown = [(one, series_from(dict(one.rows[0]["series"]))) for one in contest.verdicts]
    pictures = [_svg(_frontier(contest, question)), _svg(_courses(contest, shown))]
    own = [(one, series) for one, series in shown if len(series.outlook_hours)]
    pictures += [_svg(_outlook(one, series)) for one, series in own[:1]]
    return pictures


def color_of(contest: Contest, name: str) -> str:
    """The colour of a policy, the same in every picture of a contest."""
    if name in COLORS:
        return COLORS[name]
    others = [
        one.cell.policy.name for one in contest.verdicts if one.cell.policy.name not in COLORS
    ]
    return _SPARE[others.index(name) % len(_SPARE)]


def _frontier(contest: Contest, question: Question) -> Figure:
    figure = _figure(4.6)
    axes = figure.subplots()
    for verdict in contest.verdicts:
        name = verdict.cell.policy.name
        color = color_of(contest, name)
        edge = frontier(verdict.frontier)
        missed = [_missed(one.attainment) for one in edge]
        line: dict[str, Any] = {"linestyle": (0, (4, 2))} if name == "clairvoyant" else {}
        axes.plot(missed, [one.cost for one in edge], color=color, marker="o", ms=3.5, **line)
        at = next(one for one in verdict.frontier if one.knob == verdict.knob)
        axes.plot([_missed(at.attainment)], [at.cost], color=color, marker="o", ms=9, label=name)
    axes.axvline(_missed(question.goal), color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_xscale("log")
    axes.set_xlim(1.2, _missed(1.0) * 0.8)
    ticks = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
    axes.set_xticks([_missed(one) for one in ticks], [f"{100 * one:g}" for one in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("% of requests within both objectives", color=MUTED)
    axes.margins(y=0.1)
    axes.set_ylim(0)
    _head(axes, "Cost of the time that counts, $, as each knob is turned (large: as judged)")
    _legend(axes)
    return figure


def _missed(attainment: float) -> float:
    return max(1.0 - attainment, 5e-5)


def _courses(contest: Contest, shown: Sequence[tuple[Verdict, Series]]) -> Figure:
    figure = _figure(11.5)
    panels = figure.subplots(5, 1, sharex=True, height_ratios=[0.8, 1.3, 1.0, 1.0, 1.0])
    load, replicas, attained, cost, queue = panels
    first = shown[0][1]
    for column, name in enumerate(first.servers):
        shade = ("#1b6ca8", "#3a7d44", "#d1892b", "#8e5ea2")[column % 4]
        load.plot(first.hours, first.rate_rps[:, column], color=shade, linewidth=1, label=name)
    _head(load, "Load, requests/s")
    _legend(load)
    for verdict, series in shown:
        name = verdict.cell.policy.name
        style: dict[str, Any] = {
            "color": color_of(contest, name),
            "linewidth": 2.0 if name == "loop" else 1.1,
            "zorder": 3 if name == "loop" else 2,
            "label": name,
        }
        if name == "clairvoyant":
            style["linestyle"] = (0, (4, 2))
        replicas.plot(series.hours, series.held.sum(axis=1), drawstyle="steps-mid", **style)
        attained.plot(series.hours, 100 * series.attained, **style)
        spent = np.cumsum(series.cost_per_hour * np.gradient(series.hours))
        cost.plot(series.hours, spent, **style)
        queue.plot(series.hours, np.maximum(series.waiting.sum(axis=1), 0.1), **style)
    _head(replicas, "Replicas that hold cards, all servers")
    replicas.set_ylim(0)
    _legend(replicas)
    _head(attained, "Requests within both objectives, %")
    attained.set_ylim(-3, 103)
    _head(cost, "Cost so far, $")
    _head(queue, "Requests waiting, most at once")
    queue.set_yscale("log")
    queue.set_ylim(0.5)
    queue.tick_params(which="minor", length=0)
    queue.set_xlabel("hours", color=MUTED)
    for axes in panels:
        axes.axvspan(0, first.warm_up_hours, color="#f4f6f8", zorder=0)
        axes.set_xlim(0, float(first.hours[-1]))
    panels[2].text(
        0.0, 0.1, "  warm-up", transform=panels[2].transAxes, color=MUTED, fontsize=8, zorder=4
    )
    return figure


def _outlook(verdict: Verdict, series: Series) -> Figure:
    """What the loop saw and sized for, server by server, beside what came."""
    count = len(series.servers)
    figure = _figure(1.0 + 2.1 * count)
    panels = np.atleast_1d(figure.subplots(count, 1, sharex=True))
    for column, (axes, server) in enumerate(zip(panels, series.servers, strict=True)):
        # What was predicted stands where it was predicted for.
        later = series.outlook_hours + series.ahead_hours[:, column]
        axes.fill_between(
            later,
            series.low_rps[:, column],
            series.high_rps[:, column],
            color="#f3d9b1",
            linewidth=0,
            label="predicted, band",
        )
        axes.plot(later, series.mean_rps[:, column], color="#d1892b", linewidth=1, label="mean")
        axes.plot(
            series.hours, series.rate_rps[:, column], color=MUTED, linewidth=0.9, label="came"
        )
        axes.plot(
            series.outlook_hours,
            series.sized_rps[:, column],
            color="#1b6ca8",
            linewidth=1.4,
            drawstyle="steps-post",
            label="sized for",
        )
        _head(
            axes,
            f"{verdict.cell.policy.name}, {server}: requests/s that came, predicted, sized for",
        )
        axes.set_xlim(0, float(series.hours[-1]))
        axes.set_ylim(0)
    _legend(panels[0])
    panels[-1].set_xlabel("hours", color=MUTED)
    return figure


def _figure(height: float) -> Figure:
    return Figure(figsize=(11, height), facecolor="white", layout="constrained")


def _head(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.005, 0.5),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )


def _svg(figure: Figure) -> str:
    """The picture as an element: no address in it, no date, equal bytes for equal pictures."""
    stream = StringIO()
    with mpl.rc_context({"svg.hashsalt": "controlloop", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    # Within HTML an element needs no namespaces: nothing in the page is an address.
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
