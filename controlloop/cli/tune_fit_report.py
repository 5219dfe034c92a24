"""What `tune fit` found, as tables, as JSON and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from controlloop.api.replicas import FloatArray
from controlloop.cli.picture_style import INK, MUTED, head, style
from controlloop.cli.tables import plain_table, print_tables
from controlloop.queueing.benchmark_runs import RunPrediction
from controlloop.tuner.benchmarks.files import Benchmarks
from controlloop.tuner.fit import Fit, weighted_error
from controlloop.tuner.sweep_fit import WEIGHTS, HeldOut
from controlloop.tuner.sweeps import Role

_ABOUT_THE_CLIENT: Final = "connect_ms"
_GROUPS: Final = (
    ("constant rate, below the top", (Role.CONSTANT,)),
    ("top rate and saturated", (Role.TOP, Role.SATURATED)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """A fit to benchmark runs.

    Attributes:
        model: name of the queue model.
        benchmarks: what was measured.
        fit: the parameters.
        predicted: each run by those parameters.
        held_out: each run by parameters that never saw its shape; None with one shape only.

    """

    model: str
    benchmarks: Benchmarks
    fit: Fit
    predicted: RunPrediction
    held_out: HeldOut | None

    def rows(self) -> list[dict[str, Any]]:
        """Each run measured and predicted, times in ms."""
        sweeps = self.benchmarks.sweeps
        found = []
        for at, label in enumerate(self.benchmarks.labels):
            role = Role(int(sweeps.role[at]))
            row: dict[str, Any] = {
                "shape": sweeps.shapes[int(sweeps.shape[at])],
                "run": label,
                "role": role.name.lower(),
                "weight": WEIGHTS[role],
                "ttft_ms": float(sweeps.ttft_ms[at]),
                "ttft_predicted_ms": float(self.predicted.ttft_ms[at]),
                "itl_ms": float(sweeps.itl_ms[at]),
                "itl_predicted_ms": float(self.predicted.itl_ms[at]),
            }
            if self.held_out is not None:
                row["ttft_held_out_ms"] = float(self.held_out.ttft_ms[at])
                row["itl_held_out_ms"] = float(self.held_out.itl_ms[at])
            found.append(row)
        return found

    def errors(self) -> list[dict[str, Any]]:
        """Weighted absolute percentage errors, as shares, by group of runs; held out and not."""
        sweeps = self.benchmarks.sweeps
        found = []
        for name, roles in _GROUPS:
            rows = np.isin(sweeps.role, roles)
            if not rows.any():
                continue
            entry: dict[str, Any] = {
                "runs": name,
                "ttft": weighted_error(self.predicted.ttft_ms[rows], sweeps.ttft_ms[rows]),
                "itl": weighted_error(self.predicted.itl_ms[rows], sweeps.itl_ms[rows]),
            }
            if self.held_out is not None:
                entry["ttft_held_out"], entry["itl_held_out"] = self.held_out.errors(*roles)
            found.append(entry)
        return found

    def document(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {
            "queueModel": self.model,
            "maxBatch": self.benchmarks.max_batch,
            "maxBatchFrom": self.benchmarks.max_batch_from,
            "converged": self.fit.converged,
            "message": self.fit.message,
            "parameters": dict(zip(self.fit.names, self.fit.values.tolist(), strict=True)),
            "relativeStandardErrors": dict(
                zip(self.fit.names, self.fit.relative_errors.tolist(), strict=True)
            ),
            "errors": self.errors(),
            "runs": self.rows(),
            "skipped": list(self.benchmarks.skipped),
        }


def print_report(report: Report) -> None:
    """Print tables of parameters, errors and runs."""
    given = report.benchmarks
    notes = [f"Requests in service at most: {given.max_batch} ({given.max_batch_from})."]
    notes += [f"Left out: {each}" for each in given.skipped]
    if report.held_out is None:
        notes.append("Held-out error: not known, it takes runs of two shapes at least.")
    if not report.fit.converged:
        notes.append(f"The search did not converge: {report.fit.message}")
    print_tables(_parameters(report), _errors(report), _runs(report), *notes)


def _parameters(report: Report) -> Table:
    right = ("Value", "Std. error", "Relative")
    table = plain_table(f"Parameter of {report.model}", *right, right=right)
    fit = report.fit
    for name, value, relative in zip(fit.names, fit.values, fit.relative_errors, strict=True):
        what = f"{name} (the client's)" if name == _ABOUT_THE_CLIENT else name
        table.add_row(what, f"{value:.4g}", f"{value * relative:.2g}", f"{relative:.1%}")
    return table


def _errors(report: Report) -> Table:
    right = ("TTFT", "ITL", "TTFT held out", "ITL held out")
    table = plain_table("Weighted error of runs", *right, right=right)
    for each in report.errors():
        cells = (each.get(key) for key in ("ttft", "itl", "ttft_held_out", "itl_held_out"))
        table.add_row(each["runs"], *("-" if cell is None else f"{cell:.1%}" for cell in cells))
    return table


def _runs(report: Report) -> Table:
    right = ("TTFT, ms", "predicted", "off", "ITL, ms", "predicted", "off")
    table = plain_table("Shape", "Run", *right, right=right)
    for row in report.rows():
        label = row["run"] if row["weight"] else f"{row['run']} (not fitted)"
        cells = []
        for name in ("ttft", "itl"):
            measured, predicted = row[f"{name}_ms"], row[f"{name}_predicted_ms"]
            off = predicted / measured - 1
            cells += [f"{measured:.4g}", f"{predicted:.4g}", f"{off:+.1%}"]
        table.add_row(row["shape"], label, *cells)
    return table


def draw(report: Report, path: Path) -> None:
    """Write a picture of predicted over measured; its suffix says whether as PNG or SVG.

    Raises:
        OSError: the file cannot be written.

    """
    sweeps = report.benchmarks.sweeps
    figure = Figure(figsize=(12, 6.4), dpi=100, facecolor="white", layout="constrained")
    ttft, itl = figure.subplots(1, 2)
    predicted = report.predicted if report.held_out is None else report.held_out
    for axes, name, measured, values in (
        (ttft, "TTFT", sweeps.ttft_ms, predicted.ttft_ms),
        (itl, "ITL", sweeps.itl_ms, predicted.itl_ms),
    ):
        _panel(axes, report, measured, values)
        head(axes, f"{name}, ms")
    handles, labels = itl.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=5,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
    figure.suptitle(_title(report), color=INK, fontsize=13, fontweight="bold")
    figure.savefig(path)


def _title(report: Report) -> str:
    first = report.errors()[0] if report.errors() else {}
    held = "_held_out" if report.held_out is not None else ""
    how = "each shape predicted by the others" if held else "as fitted"
    title = f"{report.model}, {how}"
    if not first:
        return title
    ttft, itl = first[f"ttft{held}"], first[f"itl{held}"]
    return f"{title}: {ttft:.1%} off in TTFT, {itl:.1%} in ITL ({first['runs']})"


def _panel(axes: Axes, report: Report, measured: FloatArray, predicted: FloatArray) -> None:
    sweeps = report.benchmarks.sweeps
    ends = np.array([min(measured.min(), predicted.min()), max(measured.max(), predicted.max())])
    ends = ends * np.array([0.8, 1.25])
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=MUTED, alpha=0.15, linewidth=0)
    axes.plot(ends, ends, color=MUTED, linewidth=1.0, label="equal (band: within 10 %)")
    colours = colormaps["tab20"]
    fitted = np.isin(sweeps.role, [Role.CONSTANT, Role.SYNCHRONOUS])
    for at, shape in enumerate(sweeps.shapes):
        own = sweeps.shape == at
        if not own.any():
            continue
        colour = colours(at % 20)
        for rows, filled, label in ((own & fitted, True, shape), (own & ~fitted, False, None)):
            axes.plot(
                measured[rows],
                predicted[rows],
                "o",
                color=colour,
                markersize=6,
                label=label,
                markerfacecolor=colour if filled else "white",
            )
    axes.plot([], [], "o", color=MUTED, markerfacecolor="white", label="top rate, saturated")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("measured", color=MUTED, fontsize=9)
    axes.set_ylabel("predicted", color=MUTED, fontsize=9)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    style(axes)
