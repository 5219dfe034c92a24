"""`controlloop demo`: the whole loop on a simulated fleet, nothing else needed."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer

from controlloop.cli.run import Format
from controlloop.cli.tables import print_tables
from controlloop.errors import ControlLoopError, InputError, Problem
from controlloop.units import SECONDS_PER_HOUR

SUFFIXES = (".png", ".svg")

EXAMPLES = """
Examples:

  controlloop demo                          a day in the life of the fleet

  controlloop demo --plot day.png           and its picture (.png or .svg)

  controlloop demo --pace 1                 at the pace of life: takes four times as long

  controlloop demo --hours 6 --seed 2 --format json
"""


def demo(
    *,
    hours: Annotated[
        float, typer.Option(help="Hours of the load's day, from midnight.", min=0.05, max=168)
    ] = 24.0,
    pace: Annotated[
        float, typer.Option(help="How much faster than life that day passes.", min=1, max=24)
    ] = 4.0,
    period: Annotated[
        float, typer.Option(help="Seconds from one control cycle to the next.", min=10, max=3600)
    ] = 60.0,
    seed: Annotated[
        int, typer.Option(help="Chance: equal seeds give equal days.", min=0, max=2**32)
    ] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the day into this file, PNG or SVG by its suffix.")
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="How the result is printed.")
    ] = Format.TABLE,
    no_live: Annotated[
        bool, typer.Option("--no-live", help="A line an hour instead of the live table.")
    ] = False,
) -> None:
    """Run the production control loop on a simulated fleet for a day.

    Nine servers of three classes on four types of cards, each with a day of its own. The same
    day is lived by a fleet fixed at its peak: every server for the whole day on what the same
    optimizer gives it for its busiest five minutes. Every iteration of every engine is simulated;
    a request counts as within an objective by its own time to first token and its own mean time
    between tokens. Unless --pace is 1 the load's day is squeezed, so that its ramps are as much
    steeper; engines, start-ups and cycles keep their time.

    Progress goes to standard error, the result to standard output. Exit code 1: a cycle failed,
    or the picture could not be written.
    """
    from controlloop.cli.demo_live import watching
    from controlloop.cli.demo_report import report_document, report_tables
    from controlloop.composition.loop import demo_engine
    from controlloop.settings.tree import Settings
    from controlloop.simulator.demo import Demo, DemoOptions
    from controlloop.simulator.fleet import read_fleet
    from controlloop.telemetry import set_up_logs

    _check(hours / pace, period, plot)
    settings = Settings()
    set_up_logs(settings.log)
    options = DemoOptions(hours=hours, pace=pace, period_s=period, seed=seed)
    simulation = Demo(read_fleet(), options, demo_engine(settings))
    with watching(simulation, live=not no_live) as watch:
        result = simulation.run(watch)
    if output is Format.JSON:
        typer.echo(json.dumps(report_document(result), indent=2))
    else:
        print_tables(*report_tables(result))
    if plot is not None:
        from controlloop.cli.demo_picture import draw

        try:
            draw(result, plot)
        except OSError as error:
            raise ControlLoopError(f"{plot}: the picture cannot be written: {error}") from error
        typer.echo(f"picture: {plot}", err=True)
    if result.failures:
        raise typer.Exit(1)


# Paragraphs as one line each: the terminal's width says where they break.

demo.__doc__ = f"{inspect.cleandoc(demo.__doc__ or '')}\n{EXAMPLES}"


def _check(simulated_h: float, period: float, plot: Path | None) -> None:
    problems = []
    if simulated_h * SECONDS_PER_HOUR < period:
        rule = f"at this --pace must hold at least one period of {period:g} s"
        problems.append(Problem("--hours", rule, f"{simulated_h:g} simulated hours"))
    if plot is not None and plot.suffix.lower() not in SUFFIXES:
        problems.append(Problem("--plot", "must end in .png or .svg", str(plot)))
    if plot is not None and not plot.absolute().parent.is_dir():
        problems.append(Problem("--plot", "must lie in a folder that exists", str(plot)))
    if problems:
        raise InputError(problems)
