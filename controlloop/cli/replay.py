"""`controlloop replay`: recorded cycles once more, under the same or other settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlloop.cli.run import Format

if TYPE_CHECKING:
    from controlloop.replay.document import Recorded


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `controlloop run --record` wrote.")
    ],
    *,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting to try, as section.name=value; again for more."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Differences that a table shows; JSON has all.")
    ] = 20,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Run recorded cycles again, and show which decisions change.

    Each cycle sees what was observed then: a decision that changes has no consequences in the
    cycles after it (for those, see `controlloop backtest`). Nothing of the recorded daemon is
    touched. Exit code 1: without --set a decision differs from the recorded one; 2: the file or a
    setting is wrong.

    For example:

      controlloop run --config config --dry-run --record cycles.jsonl

      controlloop replay cycles.jsonl

      controlloop replay cycles.jsonl --set stability.down_window_s=600 --format json
    """
    from rich.console import Console
    from rich.progress import Progress

    from controlloop.cli.replay_report import print_replay, replay_document
    from controlloop.composition.loop import replay_builder
    from controlloop.composition.recording import replayed_settings
    from controlloop.replay.reader import Recording
    from controlloop.replay.rerun import rerun
    from controlloop.settings.file import assigned_overrides

    overrides = assigned_overrides(set_ or [])
    recording = Recording(file)
    settings = replayed_settings(recording.header, overrides)
    before = replayed_settings(recording.header, {}).optimizer.queue_model
    build = replay_builder(settings, recording.header.state)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("cycles", total=None)
        cycles = _with_queue_model(recording.cycles(), before, settings.optimizer.queue_model)
        found = rerun(cycles, build, lambda done: progress.update(task, completed=done))
    if output is Format.JSON:
        typer.echo(json.dumps(replay_document(found, recording.notes, overrides), indent=2))
    else:
        print_replay(found, recording.notes, overrides, limit)
    if not overrides and not found.is_equal:
        raise typer.Exit(1)


def _with_queue_model(cycles: Iterator[Recorded], before: str, after: str) -> Iterator[Recorded]:
    """Cycles whose performance data, where it has the default queue model, has another one."""
    for cycle in cycles:
        system = cycle.system
        if system is None or before == after:
            yield cycle
            continue
        perf = tuple(
            replace(each, queue_model=after) if each.queue_model == before else each
            for each in system.perf
        )
        yield replace(cycle, system=replace(system, perf=perf))
