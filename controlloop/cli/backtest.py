"""`controlloop backtest`: policies side by side on equal traffic."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from controlloop.backtest.case import Case, PlantKind
from controlloop.cli.run import Format
from controlloop.cli.tables import print_tables
from controlloop.errors import InputError, Problem
from controlloop.units import SECONDS_PER_HOUR

EXAMPLES = """
Examples:

  controlloop backtest --workload burst                              every policy, an hour

  controlloop backtest --workload step --policy loop --policy kpa --output report.html

  controlloop backtest --trace requests.csv --startup 120 --format json

  controlloop backtest --workload step --startup 0 --startup 300 --sweep runs.jsonl   resumable

  controlloop backtest --workload step --policy loop --policy loop:cycle.period_s=15
"""


def backtest(
    *,
    trace: Annotated[
        list[Path] | None,
        typer.Option(help="CSV of requests: time, input tokens, output tokens. Repeatable."),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(help="diurnal, burst, step, steady, or 'module:Factory'. Repeatable."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy, or loop:section.name=value,... Repeatable; default: all."),
    ] = None,
    startup: Annotated[
        list[float] | None,
        typer.Option(
            help="Seconds a replica takes to start. Repeatable; default: its own.",
            min=0,
            max=86400,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Chance. Repeatable; default: 1.", min=0, max=2**32)
    ] = None,
    hours: Annotated[
        float, typer.Option(help="Hours that count, after the warm-up.", min=0.05, max=168)
    ] = 1.0,
    goal: Annotated[
        float,
        typer.Option(help="Share of requests within both objectives to tune for.", min=0, max=1),
    ] = 0.99,
    plant: Annotated[
        PlantKind, typer.Option(help="Every request and iteration, or queueing models in motion.")
    ] = PlantKind.EVENTS,
    output: Annotated[
        Path | None, typer.Option(help="Write the report, one HTML file, to this path.")
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="How the result is printed.")
    ] = Format.TABLE,
    sweep: Annotated[
        Path | None,
        typer.Option(help="Keep every run in this file, and run only what is not in it."),
    ] = None,
    frontier_seeds: Annotated[
        int, typer.Option(help="On how many of the seeds the whole frontier is run.", min=0)
    ] = 1,
    jobs: Annotated[
        int, typer.Option(help="Processes of this machine; 0: one a processor.", min=0)
    ] = 0,
    dask: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster to run on instead.")
    ] = None,
) -> None:
    """Would it have met the objectives, at what cost, and how do other autoscalers compare?

    Runs policies side by side on equal open-loop traffic: the production control loop, the
    autoscalers of Kubernetes (on requests in flight, on the queue, on requests/s) and of Knative,
    a fleet fixed at its peak, and one that knows the future. The knob of each is chosen on other
    load (other seeds; the first half of a trace) and judged on the rest; each is also run over
    its whole knob, so that costs are compared at equal attainment.

    Progress goes to standard error, the result to standard output. Ctrl-C loses nothing of what
    --sweep keeps.
    """
    from controlloop.backtest.executors import Dask, Executor, Here, Processes
    from controlloop.backtest.jobs import perform
    from controlloop.backtest.plan import Question, answer
    from controlloop.backtest.policies import named_policies
    from controlloop.backtest.results import Results
    from controlloop.backtest.summary import failing, summary
    from controlloop.cli.backtest_tables import contest_tables
    from controlloop.settings.tree import Settings
    from controlloop.telemetry import set_up_logs

    set_up_logs(Settings().log)
    _check(trace, workload, output, sweep)
    question = Question(
        loads=tuple(_loads(trace or [], workload or [], hours, plant)),
        policies=named_policies(policy or []),
        startups_s=tuple(dict.fromkeys(startup)) if startup else (None,),
        seeds=tuple(dict.fromkeys(seed or [1])),
        goal=goal,
        frontier_seeds=frontier_seeds,
    )
    count = jobs or os.cpu_count() or 1
    executor: Executor = Here() if count == 1 else Processes(count)
    if dask is not None:
        executor = Dask(dask)
    results = Results(sweep)
    try:
        with _progress() as progress:
            verdicts = answer(question, perform, executor, results, progress)
    except KeyboardInterrupt:
        kept = "" if sweep is None else f"; {len(results)} runs are kept in {sweep}, run again"
        typer.echo(f"controlloop: stopped{kept}", err=True)
        raise typer.Exit(1) from None
    for one in failing(verdicts):
        typer.echo(f"controlloop: {one}", err=True)
    if output is not None:
        from controlloop.backtest.report import write_report

        write_report(output, question, verdicts)
        typer.echo(f"report: {output}", err=True)
    if output_format is Format.JSON:
        typer.echo(json.dumps(summary(question, verdicts), indent=2))
    else:
        print_tables(*contest_tables(question, verdicts))


# Paragraphs as one line each: the terminal's width says where they break.
backtest.__doc__ = f"{inspect.cleandoc(backtest.__doc__ or '')}\n{EXAMPLES}"


def _loads(
    traces: list[Path], workloads: list[str], hours: float, plant: PlantKind
) -> Iterator[Case]:
    """Each load once; everything that is wrong with them is found before anything runs.

    Raises:
        InputError: every problem of every trace.
        UnknownPluginError: no such workload, or it cannot be built.

    """
    from controlloop.backtest.traces import known_trace
    from controlloop.backtest.workloads import workloads as table

    for name in workloads:
        table().create(name, 1.0, hours * SECONDS_PER_HOUR, 0.0)
    for path in traces:
        known_trace(str(path))
    generated = (Case(name, hours=hours, plant=plant) for name in workloads)
    traced = (Case("trace", str(path), hours=hours, plant=plant) for path in traces)
    return iter(dict.fromkeys(chain(traced, generated)))


def _check(
    trace: list[Path] | None, workload: list[str] | None, output: Path | None, sweep: Path | None
) -> None:
    problems = []
    if not trace and not workload:
        problems.append(Problem("", "--trace or --workload must say which load"))
    for option, path in (("--output", output), ("--sweep", sweep)):
        if path is not None and not path.absolute().parent.is_dir():
            problems.append(Problem(option, "must lie in a folder that exists", str(path)))
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        problems.append(Problem("--output", "must end in .html", str(output)))
    if problems:
        raise InputError(problems)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere a line each tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("runs", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = -1

    def line(done: int, total: int) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if tenth != last:
            last = tenth
            sys.stderr.write(f"{done} of {total} runs\n")

    yield line
