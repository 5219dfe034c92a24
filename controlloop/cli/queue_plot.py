"""The picture of one replica: TTFT, ITL and throughput over the rate and over the batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from controlloop.api.replicas import FloatArray
from controlloop.cli.picture_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    WARNING,
    check_suffix,
    head,
    style,
)
from controlloop.errors import InputError, Problem
from controlloop.protocols import QueueModel
from controlloop.queueing.documents import UNREACHABLE, analyze_documents, size_documents

_RATES: Final = 240
_BATCHES: Final = 90
# How far beyond the target, the sized point and the rate asked about latencies are drawn.
_HEADROOM: Final = 2.0

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What is drawn, as arrays of one length; NaN where there is no answer.

    Attributes:
        x: rates in requests/s, or batch sizes.
        ttft_ms: time to first token.
        itl_ms: time between tokens.
        tokens_per_s: output tokens.

    """

    x: FloatArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    tokens_per_s: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One replica, analyzed and sized.

    Attributes:
        question: the input; see `controlloop queue size`.
        over_rate: at the given batch, up to the greatest rate.
        over_batch: at the rate `rate_rps`.
        sized: the rate in requests/s that the targets allow at each batch of `over_batch`.
        greatest: the greatest rate there is at each of those.
        rate_rps: the rate asked about, else the sized one, else half of the greatest.
        sized_rps: the sized rate, NaN where no rate meets the targets.
        point: the analysis at the sized rate, None where no rate meets the targets.

    """

    question: Document
    over_rate: Curves
    over_batch: Curves
    sized: FloatArray
    greatest: FloatArray
    rate_rps: float
    sized_rps: float
    point: Document | None

    @property
    def batch(self) -> int:
        """Requests in service at most."""
        return int(self.question["max_batch"])

    def target(self, name: str) -> float:
        """A target of the question, 0 for none."""
        return float(self.question.get(f"target_{name}") or 0.0)


def portray(question: Document, model: QueueModel) -> Portrait:
    """Analyze and size one replica over rates and batch sizes.

    Raises:
        InputError: what is wrong with the question.

    """
    (sizing,) = size_documents([question], model)
    if "error" in sizing and sizing["error"] != UNREACHABLE:
        raise InputError([Problem("", sizing["error"])])
    (idle,) = analyze_documents([{**question, "rate_rps": 0.0}], model)
    greatest = float(idle["max_rate_rps"])
    point = sizing.get("at")
    rates = np.linspace(0.0, greatest, _RATES)
    at_rates = [{**question, "rate_rps": float(rate)} for rate in rates]
    sized_rps = _sized_rate(sizing)
    rate_rps = question.get("rate_rps") or (0.5 * greatest if point is None else sized_rps)
    batch = int(question["max_batch"])
    batches = np.unique(np.append(np.linspace(1, 2 * batch, _BATCHES).astype(np.int64), batch))
    at_batches = [{**question, "max_batch": int(each), "rate_rps": rate_rps} for each in batches]
    bare = [{**each, "rate_rps": 0.0} for each in at_batches]
    return Portrait(
        question=question,
        over_rate=_curves(rates, analyze_documents(at_rates, model), question),
        over_batch=_curves(
            batches.astype(np.float64), analyze_documents(at_batches, model), question
        ),
        sized=_values(size_documents(at_batches, model), _sized_rate),
        greatest=_column(analyze_documents(bare, model), "max_rate_rps"),
        rate_rps=float(rate_rps),
        sized_rps=sized_rps,
        point=point,
    )


def draw(portrait: Portrait, path: Path) -> None:
    """Write the picture to `path`; its suffix says whether as PNG or SVG.

    Raises:
        InputError: the suffix is of neither.
        OSError: the file cannot be written.

    """
    check_suffix(path)
    figure = Figure(figsize=(12.5, 7.2), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(2, 3)
    _over_rate(axes[0], portrait)
    _over_batch(axes[1], portrait)
    for one in axes.flat:
        style(one)
        one.set_xlim(left=0)
        one.set_ylim(bottom=0)
    figure.suptitle(_title(portrait), color=INK, fontsize=13, fontweight="bold")
    figure.savefig(path)


def _title(portrait: Portrait) -> str:
    question = portrait.question
    shape = f"{question['input_tokens']:g} tokens in, {question['output_tokens']:g} out"
    text = f"One replica, at most {portrait.batch} in service, {shape}: "
    if portrait.point is None:
        return text + "no rate meets the targets"
    return text + f"up to {portrait.sized_rps:.3g} requests/s within its targets"


def _over_rate(axes: Sequence[Axes], portrait: Portrait) -> None:
    curves, point = portrait.over_rate, portrait.point
    ttft, itl, tokens = axes
    for one, values, target, name, key in (
        (ttft, curves.ttft_ms, portrait.target("ttft_ms"), "TTFT, ms", _ttft),
        (itl, curves.itl_ms, portrait.target("itl_ms"), "ITL, ms", _itl),
    ):
        one.plot(curves.x, values, color=BLUE, linewidth=1.8)
        asked = float(np.interp(portrait.rate_rps, curves.x, values))
        _limit(one, values, target, asked, key(point) if point else 0.0)
        _target(one, target)
        if point is not None:
            _point(one, portrait.sized_rps, key(point))
        head(one, f"{name}, over the rate")
    tokens.plot(curves.x, curves.tokens_per_s, color=BLUE, linewidth=1.8)
    _target(tokens, portrait.target("tps"))
    if point is not None:
        served = point["throughput_rps"] * portrait.question["output_tokens"]
        _point(tokens, portrait.sized_rps, served)
    head(tokens, "Throughput, output tokens/s, over the rate")
    for one in axes:
        one.set_xlabel("arrivals, requests/s", color=MUTED, fontsize=9)
        _mark(one, curves.x[-1], f"greatest rate: {_number(curves.x[-1])}", MUTED)
        if portrait.question.get("rate_rps"):
            _mark(one, portrait.rate_rps, f"asked about: {_number(portrait.rate_rps)}", GREEN)


def _over_batch(axes: Sequence[Axes], portrait: Portrait) -> None:
    curves = portrait.over_batch
    ttft, itl, rates = axes
    at = int(np.argmin(np.abs(curves.x - portrait.batch)))
    for one, values, target, name in (
        (ttft, curves.ttft_ms, portrait.target("ttft_ms"), "TTFT, ms"),
        (itl, curves.itl_ms, portrait.target("itl_ms"), "ITL, ms"),
    ):
        one.plot(curves.x, values, color=BLUE, linewidth=1.8)
        _limit(one, values, target, float(values[at]))
        _target(one, target)
        if np.isfinite(values[at]):
            _point(one, portrait.batch, float(values[at]))
        head(one, f"{name}, at {portrait.rate_rps:.3g} requests/s, over the batch")
    rates.plot(curves.x, portrait.greatest, color=MUTED, linewidth=1.4, label="at saturation")
    rates.plot(curves.x, portrait.sized, color=BLUE, linewidth=1.8, label="within the targets")
    if portrait.point is not None:
        _point(rates, portrait.batch, portrait.sized_rps)
    head(rates, "Greatest requests/s, over the batch")
    rates.legend(loc="best", frameon=False, fontsize=9, labelcolor=INK)
    for one in axes:
        one.set_xlabel("requests in service at most", color=MUTED, fontsize=9)
        _mark(one, portrait.batch, f"batch: {portrait.batch}", GREEN)


def _limit(axes: Axes, values: FloatArray, *shown: float) -> None:
    """End the axis where what matters ends: near saturation latencies have no end."""
    known = values[np.isfinite(values)]
    if len(known):
        least = max((each for each in shown if np.isfinite(each)), default=0.0)
        top = max(_HEADROOM * least, 1.2 * float(known.min()))
        axes.set_ylim(0, min(top, 1.2 * float(known.max())) or 1.0)


def _target(axes: Axes, target: float) -> None:
    if target <= 0:
        return
    axes.axhline(target, color=WARNING, linestyle=(0, (5, 3)), linewidth=1.3)
    axes.annotate(
        f"target {target:g}",
        (0.015, target),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        color=WARNING,
        fontsize=9,
        # A target far above the curves would else be given room that the curves need.
        annotation_clip=True,
    )


def _point(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], "o", color=ORANGE, markersize=8, markeredgecolor="white", zorder=5)
    axes.annotate(
        f"{_number(y)} at {_number(x)}",
        (x, y),
        xytext=(-7, 9),
        textcoords="offset points",
        ha="right",
        color=ORANGE,
        fontsize=9,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
    )


def _mark(axes: Axes, x: float, text: str, color: str) -> None:
    """An upright line with its name along it."""
    axes.axvline(x, color=color, linestyle=(0, (4, 2)), linewidth=1.2)
    axes.annotate(
        text,
        (x, 0.03),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        color=color,
        fontsize=8.5,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ttft(answer: Document) -> float:
    return float(answer["wait_ms"] + answer["prefill_ms"])


def _itl(answer: Document) -> float:
    return float(answer["itl_ms"])


def _sized_rate(answer: Document) -> float:
    """The arrivals in requests/s at which every target holds; NaN where there are none."""
    rates = ("rate_ttft_rps", "rate_itl_rps", "rate_tps_rps")
    return min((float(answer[each]) for each in rates if each in answer), default=np.nan)


def _curves(x: FloatArray, answers: list[Document], question: Document) -> Curves:
    return Curves(
        x=x,
        ttft_ms=_values(answers, _ttft),
        itl_ms=_values(answers, _itl),
        tokens_per_s=_column(answers, "throughput_rps") * float(question["output_tokens"]),
    )


def _column(answers: list[Document], key: str) -> FloatArray:
    return _values(answers, lambda answer: float(answer[key]))


def _values(answers: list[Document], value: Callable[[Document], float]) -> FloatArray:
    return np.array([np.nan if "error" in each else value(each) for each in answers])
