"""`controlloop check`: is a configuration folder good?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controlloop.api.convert import system_from_spec
from controlloop.api.files import OPTIMIZER_FILE, SERVER_FILE, read_folder
from controlloop.api.references import check_references
from controlloop.api.system import System
from controlloop.cli.run import Format
from controlloop.cli.tables import plain_table, print_tables
from controlloop.errors import InputError, Problem


def check(
    config: Annotated[Path, typer.Argument(help="Folder with settings.yaml and data files.")],
    *,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Validate a configuration folder: settings, data files and the names between them.

    Prints every problem with its file, path, rule and value. Exit code 2 when there is one;
    warnings (a name that leads nowhere, with its consequence) leave it at 0.

    Examples: `controlloop check config`, `controlloop check config --format json`.
    """
    from controlloop.composition.configuration import data_folder, examine_config
    from controlloop.composition.parts import bad_choices

    problems: list[Problem] = []
    counts: dict[str, int] = {}
    warnings: list[str] = []
    folder: Path | None = config / "data"
    try:
        found = examine_config(config, {})
        # Custom resources are the cluster's to check.
        files = found.settings.data.source == "files"
        folder = data_folder(found.settings, config) if files else None
        choices = bad_choices(found.settings, found.bad)
        problems += [*found.problems, *(replace(each, source=str(config)) for each in choices)]
    except InputError as error:
        problems += _placed(error)
    if folder is not None:
        try:
            system = system_from_spec(read_folder(folder, optional=(OPTIMIZER_FILE, SERVER_FILE)))
        except InputError as error:
            problems += _placed(error)
        else:
            counts = _counts(system)
            warnings = [str(warning) for warning in check_references(system)]
    _print(problems, warnings, counts, output)
    if problems:
        raise typer.Exit(2)


def _counts(system: System) -> dict[str, int]:
    return {
        "accelerators": len(system.accelerators),
        "types with capacity": len(system.capacity),
        "model-accelerator pairs": len(system.perf),
        "classes": len(system.classes),
    }


def _placed(error: InputError) -> list[Problem]:
    return [
        Problem(each.path, each.rule, each.value, each.source or error.source)
        for each in error.problems
    ]


def _print(
    problems: list[Problem], warnings: list[str], counts: dict[str, int], output: Format
) -> None:
    if output is Format.JSON:
        document = {
            "ok": not problems,
            "problems": [
                {"file": each.source, "path": each.path, "rule": each.rule, "value": each.value}
                for each in problems
            ],
            "warnings": warnings,
            "counts": counts,
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for problem in problems:
        typer.echo(f"{problem.source}: {problem}" if problem.source else str(problem), err=True)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    if counts:
        table = plain_table("What", "Count", right=("Count",))
        for what, count in counts.items():
            table.add_row(what, str(count))
        print_tables(table)
    typer.echo("bad" if problems else "good")
