"""`controlloop tune fit`: a queue model's parameters from benchmark files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from controlloop.api.system import PerfParameters
from controlloop.cli.run import Format
from controlloop.errors import InputError, Problem

if TYPE_CHECKING:
    from controlloop.tuner.sweep_fit import RunModel

DEFAULT_FIT_MODEL: Final = "roofline"
SEVERAL: Final = 2


def fit(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="guidellm reports, reduced sweeps (JSON) or CSV."),
    ],
    *,
    queue_model: Annotated[
        str, typer.Option(help="Queue model to fit: its name or 'module:Factory'.")
    ] = DEFAULT_FIT_MODEL,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="Requests in service at most in the measured server. Without it: the most"
            " clients of a saturated run, or 256."
        ),
    ] = None,
    model_name: Annotated[
        str, typer.Option(metavar="NAME", help="Model of the entry to write.")
    ] = "",
    acc: Annotated[
        str, typer.Option(metavar="NAME", help="Accelerator of the entry to write.")
    ] = "",
    acc_count: Annotated[
        int, typer.Option(help="Accelerators of one replica in the entry to write.")
    ] = 1,
    at_tokens: Annotated[
        int, typer.Option(help="Output tokens for which the entry's maxBatchSize is meant.")
    ] = 512,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of measured against predicted, PNG or SVG.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Model data: the entry is added to it, or replaced."),
    ] = None,
) -> None:
    """Fit a queue model to benchmark runs, and say how well it predicts those it has not seen.

    Prints the parameters with their standard errors, each run measured and predicted, and the
    error on each shape (input x output tokens) by parameters fitted to the other shapes alone.
    Exit code 2: a file or an option is wrong; nothing is written then.

    For example:

      controlloop tune fit benchmarks.json --plot fit.png

      controlloop tune fit benchmarks.json --max-batch 128 --format json

      controlloop tune fit *.csv --model-name llama-3.1-8b --acc H100 --write model-data.json
    """
    from controlloop.cli.picture_style import check_suffix
    from controlloop.cli.tune_fit_report import Report, draw, print_report
    from controlloop.cli.tune_write import update_model_data
    from controlloop.tuner.benchmarks.files import read_benchmarks
    from controlloop.tuner.sweep_fit import fit_sweeps, leave_one_shape_out, predict_sweeps

    if plot is not None:
        check_suffix(plot, "--plot")
    problems = too_small({"--acc-count": acc_count, "--at-tokens": at_tokens})
    if write is not None and not (model_name and acc):
        rule = "needs --model-name and --acc, the pair that the entry is of"
        problems.append(Problem("--write", rule))
    if problems:
        raise InputError(problems)
    benchmarks = read_benchmarks(files, max_batch=max_batch)
    sweeps = benchmarks.sweeps
    model = run_model(queue_model)
    try:
        found = fit_sweeps(model, sweeps)
    except ValueError as error:
        raise InputError([Problem("--queue-model", str(error))]) from error
    several = len(set(sweeps.shape.tolist())) >= SEVERAL
    report = Report(
        model=model.name,
        benchmarks=benchmarks,
        fit=found,
        predicted=predict_sweeps(model, found.values, sweeps),
        held_out=leave_one_shape_out(model, sweeps) if several else None,
    )
    if write is not None:
        count = len(model.parameter_names)
        entry = PerfParameters(
            model=model_name,
            accelerator=acc,
            parameters=tuple(found.values[:count].tolist()),
            max_batch=benchmarks.max_batch,
            at_tokens=at_tokens,
            accelerators_per_replica=acc_count,
            queue_model=model.name,
            parameter_names=model.parameter_names,
        )
        update_model_data(write, [entry])
    if plot is not None:
        try:
            draw(report, plot)
        except OSError as error:
            rule = f"cannot be written: {error.strerror}"
            raise InputError([Problem("--plot", rule, str(plot))]) from error
    if output is Format.JSON:
        typer.echo(json.dumps(report.document(), indent=2))
    else:
        print_report(report)


def too_small(options: Mapping[str, int]) -> list[Problem]:
    """What is wrong with options, by their names, that must be 1 or more."""
    return [
        Problem(option, "must be >= 1", str(count))
        for option, count in options.items()
        if count < 1
    ]


def run_model(name: str) -> RunModel:
    """The queue model of this name.

    Raises:
        InputError: it has no service times to predict benchmark runs with.
        UnknownPluginError: no such model.

    """
    from controlloop.queueing.models import queue_models

    model: Any = queue_models().create(name)
    if not hasattr(model, "times"):
        rule = "has no service times of its own, and cannot predict benchmark runs"
        raise InputError([Problem("--queue-model", rule, name)])
    return cast("RunModel", model)
