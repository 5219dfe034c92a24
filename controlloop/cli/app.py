"""The commands, one file a family.

Exit codes: 0 done, 1 could not, 2 bad input.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from controlloop import __version__
from controlloop.cli.backtest import backtest
from controlloop.cli.check import check
from controlloop.cli.controller import controller
from controlloop.cli.crds import crds
from controlloop.cli.demo import demo
from controlloop.cli.doctor import doctor
from controlloop.cli.explain import explain
from controlloop.cli.generate import generate
from controlloop.cli.help_text import let_help_flow
from controlloop.cli.optimize import optimize
from controlloop.cli.queue import app as queue_app
from controlloop.cli.replay import replay
from controlloop.cli.run import run
from controlloop.cli.serve import serve
from controlloop.cli.simulate import simulate
from controlloop.cli.status import status
from controlloop.cli.tune import app as tune_app
from controlloop.errors import ControlLoopError, InputError, UnknownPluginError

app = typer.Typer(
    name="controlloop",
    help="Decides accelerator, replicas and batch size for every LLM inference server of a "
    "Kubernetes cluster, at the least cost within its latency objectives.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command()(demo)
app.command()(simulate)
app.command()(backtest)
app.command()(optimize)
app.command()(explain)
app.command()(generate)
app.add_typer(queue_app, name="queue", help="Analyze, size and plot one replica's queueing model.")
app.add_typer(
    tune_app, name="tune", help="Parameters of queue models: from benchmarks, or without one."
)
app.command()(replay)
app.command()(serve)
app.command()(status)
app.command()(doctor)
app.command()(check)
app.command()(controller)
app.command()(crds)
let_help_flow(app)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - the signature of an option's callback
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """What every command shares."""


def main() -> None:
    """Run a command; the project's own errors become one line each and an exit code."""
    try:
        app()
    except (InputError, UnknownPluginError) as error:
        _complain(error)
        sys.exit(2)
    except ControlLoopError as error:
        _complain(error)
        sys.exit(1)
    except OSError as error:
        _complain(f"could not go on: {error}")
        # What is still to be written, such as to a full disk, would fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _complain(error: object) -> None:
    for line in str(error).splitlines():
        sys.stderr.write(f"controlloop: {line}\n")
