"""`controlloop explain`: why a server got what it got."""

from __future__ import annotations

import json
from typing import Annotated

import typer

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


def explain(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Name of the server.")],
    path: PathArgument,
    *,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    prices: Annotated[
        bool,
        typer.Option(
            "--prices/--no-prices", help="Solve again with one more card of each type, or do not."
        ),
    ] = True,
    flags: FlagsOption = None,
    queue_model: QueueModelOption = DEFAULT_QUEUE_MODEL,
    scale: ScaleOption = None,
    what_if: WhatIfOption = None,
    time_limit: TimeLimitOption = None,
    gap: GapOption = None,
    confidence: ConfidenceOption = None,
) -> None:
    """Say why a server of a system gets what it gets.

    Prints its demand; every accelerator with replicas, cost and value, or the reason why it is
    none; the winner, and what the next best would cost more; what kept the server from something
    better; and what one more card of each type would change. With --scale or --what-if all of
    that in the system as it would be. Exit code 2: bad input, or no such server.

    For example:

      controlloop explain chat-8b config/sample

      controlloop explain chat-8b system.json --format json

      controlloop explain chat-8b config/sample --what-if capacity.H100=2
    """
    from controlloop.api.explanation_document import explanation_document
    from controlloop.cli.explain_table import print_explanation
    from controlloop.optimizer.explain import explain as explain_server

    limits = read_limits(time_limit, gap, confidence)
    asked = ask(path, flags, scale, what_if, queue_model, limits)
    explanation = explain_server(asked.then, server, shadow_prices=prices)
    warn(explanation)
    if output is Format.JSON:
        typer.echo(json.dumps(explanation_document(explanation), indent=2))
    else:
        print_explanation(explanation)
