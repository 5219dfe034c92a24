"""`controlloop optimize`: system data in, allocations out; and what if it were otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from controlloop.api.convert import spec_from_solution, spec_from_system
from controlloop.api.files import document_text, write_document
from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.cli.asking import (
    ConfidenceOption,
    FlagsOption,
    GapOption,
    PathArgument,
    QueueModelOption,
    ScaleOption,
    TimeLimitOption,
    WhatIfOption,
    ask,
    read_limits,
    warn,
)
from controlloop.cli.run import Format
from controlloop.errors import InputError, Problem


def optimize(
    path: PathArgument,
    *,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    flags: FlagsOption = None,
    queue_model: QueueModelOption = DEFAULT_QUEUE_MODEL,
    scale: ScaleOption = None,
    what_if: WhatIfOption = None,
    time_limit: TimeLimitOption = None,
    gap: GapOption = None,
    confidence: ConfidenceOption = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="In JSON always say how the answer was found (solver), not only where there is"
            " something to know of it.",
        ),
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the system there, as one file, with the allocations running."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw before and after into this file, PNG or SVG by its suffix."),
    ] = None,
) -> None:
    """Allocate accelerators, replicas and batch to every server of a system.

    A folder holds accelerator-data.json, capacity-data.json, model-data.json,
    serviceclass-data.json, server-data.json and optimizer-data.json; a file or standard input
    holds all of them as {"system": {...}}. A server that cannot be served is listed with the
    reason; names that lead nowhere are warnings. With --scale or --what-if the answers before and
    after the changes stand side by side. Where another solver had to stand in, or the time was up,
    a warning on stderr says so, and so does "solver" in the JSON. Exit code 2: bad input, every
    error on stderr.

    For example:

      controlloop optimize config/sample

      controlloop optimize system.json --format json

      cat system.json | controlloop optimize - --set saturationPolicy=RoundRobin

      controlloop optimize config/sample --scale 1.5 --what-if capacity.A100=+8

      controlloop optimize config/sample --set unlimited=true --plot answer.png

      controlloop optimize config/sample --set solver=milp --time-limit 60 --gap 0.001
    """
    from controlloop.cli.compare import Answer, comparison_document, print_comparison
    from controlloop.cli.optimize_table import print_solution
    from controlloop.optimizer import optimize as solve
    from controlloop.optimizer.what_if import with_allocations

    if plot is not None:
        from controlloop.cli.picture_style import check_suffix

        check_suffix(plot, "--plot")
    limits = read_limits(time_limit, gap, confidence)
    asked = ask(path, flags, scale, what_if, queue_model, limits)
    answer = Answer(asked.then, solve(asked.then))
    before = Answer(asked.now, solve(asked.now)) if asked.changed else None
    if before is not None:
        warn(before.solution, "before: ")
    warn(answer.solution, "" if before is None else "after: ")
    if before is None and output is Format.JSON:
        form = spec_from_solution(answer.solution, with_solver=details)
        sys.stdout.write(document_text(form))
    elif before is None:
        print_solution(answer.system, answer.solution)
    elif output is Format.JSON:
        document = comparison_document(before, answer, with_solver=details)
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print_comparison(before, answer)
    if save is not None:
        data = spec_from_system(with_allocations(answer.system, answer.solution))
        _write("--save", save, lambda: write_document(data, save))
    if plot is not None:
        from controlloop.cli.answer_picture import draw, story_of

        story = story_of(before, answer)
        _write("--plot", plot, lambda: draw(story, plot))


def _write(option: str, path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        rule = f"cannot be written: {error.strerror}"
        raise InputError([Problem(option, rule, str(path))]) from error
