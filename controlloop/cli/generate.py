"""`controlloop generate`: systems of any size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from controlloop.api.convert import spec_from_system
from controlloop.api.files import STDIN, document_text, write_document, write_folder
from controlloop.errors import InputError, Problem

STDOUT: Final = STDIN


def generate(
    *,
    servers: Annotated[int, typer.Option(help="How many servers.")] = 10,
    accelerators: Annotated[int, typer.Option(help="How many accelerators.")] = 8,
    models: Annotated[
        int | None, typer.Option(help="How many models; default: one for four servers, up to 20.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds and sizes give equal systems.")] = 1,
    scarcity: Annotated[
        float,
        typer.Option(
            help="Cards that the cheapest allocations take, as a share of those there are: 1 is"
            " just enough, 2 half of it."
        ),
    ] = 0.8,
    out: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR|FILE|-",
            help="Folder for one file a part, one file (*.json) of all, or - for stdout.",
        ),
    ] = STDOUT,
) -> None:
    """Make up a system: accelerators, cards, models, classes, and servers with their load.

    Numbers are plausible, not measured. Every server could be served if cards were no matter;
    most run what suited an earlier load. Exit code 2: bad numbers, or nothing can be written.

    For example:

      controlloop generate --servers 1000 --accelerators 27 --seed 7 -o system.json

      controlloop generate --servers 20 --scarcity 1.5 | controlloop optimize -
    """
    if not out:
        raise InputError([Problem("--output", "must not be empty")])
    from controlloop.optimizer.generation import Size
    from controlloop.optimizer.generation import generate as make_up

    data = spec_from_system(make_up(Size(servers, accelerators, models, seed, scarcity)))
    if out == STDOUT:
        sys.stdout.write(document_text(data))
        return
    try:
        if out.lower().endswith(".json"):
            write_document(data, Path(out))
        else:
            write_folder(data, Path(out))
    except OSError as error:
        rule = f"cannot be written: {error.strerror}"
        raise InputError([Problem("--output", rule, out)]) from error
