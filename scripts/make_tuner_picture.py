"""Draws docs/images/tuner-disturbances.png: recorded replicas, disturbed, predicted one step ahead.

    python scripts/make_tuner_picture.py RECORDING [MODEL [OUTPUT]]

RECORDING is a file that `controlloop tune replay` reads, MODEL a model in it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.api.system import PerfParameters
from controlloop.cli.picture_style import BLUE, MUTED, ORANGE, PALE, head, style
from controlloop.queueing.roofline import Roofline
from controlloop.tuner.belief import Belief, Prior, prior_of
from controlloop.tuner.checkpoint import decode, encode
from controlloop.tuner.expectation import ITL, TTFT, Table, expected_values
from controlloop.tuner.learning import Learner
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.recordings import Assumed, read_json_recording
from controlloop.tuner.sweep_fit import PRIORS
from controlloop.tuner.tuning import Tuning

MODEL = Roofline()
START = tuple(PRIORS[MODEL.name][name] for name in MODEL.parameter_names)
OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "tuner-disturbances.png"


@dataclass(frozen=True)
class Case:
    """Observations with a disturbance in those at `disturbed`."""

    measurements: Sequence[Measurement]
    disturbed: BoolArray
    start: float = 1.0
    restart_at: int = -1


def prior(factor: float) -> Prior:
    """Common values, with all times multiplied."""
    values = tuple(
        value * (factor if name.endswith("_ms") else 1.0)
        for name, value in zip(MODEL.parameter_names, START, strict=True)
    )
    names = MODEL.parameter_names
    perf = PerfParameters("m", "a", values, 128, 1, queue_model=MODEL.name, parameter_names=names)
    return prior_of(perf, Tuning().doubt)


def learned(measurements: Sequence[Measurement]) -> FloatArray:
    """(k,) logarithms of the parameters after `measurements`."""
    learner, start = Learner(MODEL, Tuning()), prior(1.0)
    belief = Belief.of(start)
    for one in measurements:
        (belief,) = learner.learn([start], [belief], [one])
    return belief.mean


def errors(case: Case) -> FloatArray:
    """Relative error of TTFT and ITL before each observation is learned: (n, 2)."""
    learner, start, found = Learner(MODEL, Tuning()), prior(case.start), []
    belief = Belief.of(start)
    for number, one in enumerate(case.measurements):
        if number == case.restart_at:
            (belief,) = decode(encode({("m", "a", MODEL.name, START): belief})).values()
        expected = expected_values(MODEL, belief.mean[np.newaxis], Table.of([one]))[0]
        seen = np.array([one.ttft_ms or np.nan, one.itl_ms])
        found.append(np.abs(np.exp(expected[[TTFT, ITL]]) / seen - 1))
        (belief,) = learner.learn([start], [belief], [one])
    return np.array(found)


def cases(clean: Sequence[Measurement]) -> Mapping[str, Case]:
    """The recording as it is and with each disturbance."""
    count, third = len(clean), len(clean) // 3
    none = np.zeros(count, dtype=np.bool_)
    rng = np.random.default_rng(0)
    wrong = rng.random(count) < 0.1
    outliers = [
        replace(one, itl_ms=one.itl_ms * 10, ttft_ms=(one.ttft_ms or 0) / 10) if bad else one
        for one, bad in zip(clean, wrong, strict=True)
    ]
    stuck = none.copy()
    stuck[third : third + 20] = True
    frozen = [
        replace(one, source="0", itl_ms=clean[third - 1].itl_ms) if bad else one
        for one, bad in zip(clean, stuck, strict=True)
    ]
    before, length = clean[third - 1], 120
    full_batch = replace(before, running=128.0, queue_seen=True)
    known = learned(clean[:third])[np.newaxis]
    itl_ms = float(np.exp(expected_values(MODEL, known, Table.of([full_batch]))[0, ITL]))
    hour = [
        replace(
            before,
            time=before.time + 30 * (number + 1),
            ttft_ms=300.0 * (1 + number) * float(np.exp(rng.normal(0, 0.02))),
            itl_ms=itl_ms * float(np.exp(rng.normal(0, 0.02))),
            rate_rps=1.3 * before.rate_rps,
            running=128.0,
            requests=20.0,
            queue_seen=True,
        )
        for number in range(length)
    ]
    after = [replace(one, time=one.time + 30 * length) for one in clean[third:]]
    full = np.zeros(count + length, dtype=np.bool_)
    full[third : third + length] = True
    return {
        "as recorded": Case(clean, none),
        "a start that is wrong by a factor of 20": Case(clean, none, start=20.0),
        "10 % outliers of a factor of 10": Case(outliers, wrong),
        "ITL's counter frozen": Case(frozen, stuck),
        "an hour in saturation (learned from ITL)": Case([*clean[:third], *hour, *after], full),
        "a restart in the middle": Case(clean, none, restart_at=count // 2),
    }


def main(recording: Path, model: str, output: Path) -> None:
    """Draw it."""
    recorded = read_json_recording(recording.read_bytes(), str(recording), Assumed())
    found = [each.sample.found for each in recorded if each.sample.pair[0] == model]
    clean = [one for one in found if isinstance(one, Measurement)]
    figure = Figure(figsize=(9.0, 11.0), dpi=80, facecolor="white", layout="constrained")
    rows = figure.subplots(6, 1)
    for axes, (title, case) in zip(rows, cases(clean).items(), strict=True):
        style(axes)
        head(axes, title)
        for place in np.flatnonzero(case.disturbed):
            axes.axvspan(place - 0.5, place + 0.5, color=PALE, linewidth=0)
        if case.restart_at > 0:
            axes.axvline(case.restart_at, color=MUTED, linewidth=1)
        off = errors(case)
        for channel, (name, color) in enumerate((("TTFT", ORANGE), ("ITL", BLUE))):
            shown = np.where(case.disturbed, np.nan, np.maximum(off[:, channel], 1e-4))
            axes.plot(shown, ".", color=color, markersize=3.5, label=name)
        axes.axhline(0.08, color=MUTED, linewidth=0.7, linestyle="--")
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 30)
        axes.set_xlim(0, len(case.measurements))
        axes.set_yticks([1e-4, 1e-2, 1.0], ["0.01 %", "1 %", "100 %"])
        last = off[len(off) // 2 :][~case.disturbed[len(off) // 2 :]]
        said = [f"{np.median(one):.1%} / {np.quantile(one, 0.9):.1%}" for one in last.T]
        words = f"last half, median / p90: TTFT {said[0]}, ITL {said[1]}"
        axes.text(0.995, 0.93, words, transform=axes.transAxes, ha="right", va="top", fontsize=8)
        print(f"{title}: {words}")
    rows[0].legend(
        fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.4, 1.0)
    )
    rows[-1].set_xlabel("observation; shaded: disturbed; dashed: 8 %", color=MUTED)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        Path(given[0]),
        given[1] if len(given) > 1 else "granite_8b",
        Path(given[2]) if len(given) > 2 else OUTPUT,
    )
