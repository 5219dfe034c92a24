"""`controlloop tune`: parameters of queue models, from benchmarks or without one."""

from __future__ import annotations

import typer

from controlloop.cli.tune_fit import fit
from controlloop.cli.tune_replay import replay
from controlloop.cli.tune_seed import seed

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.command()(fit)
app.command()(seed)
app.command()(replay)
