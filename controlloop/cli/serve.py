"""`controlloop serve`: the optimizer's REST server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.cli.asking import QueueModelOption, read_limits
from controlloop.rest.options import (
    DEFAULT_HOST,
    DEFAULT_MAX_BODY_MB,
    DEFAULT_PORT,
    RestOptions,
)


def serve(
    *,
    full: Annotated[
        bool, typer.Option("--full", "-F", help="Stateful: all commands, on data that is kept.")
    ] = False,
    host: Annotated[
        str, typer.Option(envvar="INFERNO_HOST", help="Address to listen on.")
    ] = DEFAULT_HOST,
    port: Annotated[
        int,
        typer.Option(envvar="INFERNO_PORT", min=0, max=65535, help="Port; 0 takes a free one."),
    ] = DEFAULT_PORT,
    state_file: Annotated[
        Path | None, typer.Option(help="File that keeps the data over a restart; needs --full.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that requests must carry.")
    ] = None,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, max=1024, help="Largest body that is taken, in MB.")
    ] = DEFAULT_MAX_BODY_MB,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A 'module:Factory' that requests may name; repeatable."),
    ] = None,
    queue_model: QueueModelOption = DEFAULT_QUEUE_MODEL,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Seconds after which an exact solver ends, for requests without timeLimit; 10"
            " without it.",
        ),
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option(
            metavar="G",
            help="Gap at which an exact solver may end, for requests without gap; 0 without it.",
        ),
    ] = None,
) -> None:
    """Answer the optimizer's commands over REST.

    Without --full it has /optimizeOne, and every /get... for the data of the last one. /docs
    lists all commands. SIGTERM ends it after the requests under way.

    Examples:
      controlloop serve

      controlloop serve -F --port 3302 --state-file state.json

      controlloop serve --queue-model mm1k --time-limit 5 --gap 0.001
    """
    from controlloop.errors import InputError, Problem
    from controlloop.optimizer import optimize
    from controlloop.plugins import Registry
    from controlloop.queueing.models import queue_models
    from controlloop.rest.building import run_server
    from controlloop.settings.tree import LogSettings
    from controlloop.telemetry import set_up_logs

    queue_models().create(queue_model)
    rule = "must be 'module:Factory'"
    if problems := [Problem("--plugin", rule, each) for each in plugin or () if ":" not in each]:
        raise InputError(problems)
    for each in plugin or ():
        # Whether it is a solver or a queue model is for the request to say.
        Registry("plug-in", object).factory(each)
    limits = read_limits(time_limit, gap)
    set_up_logs(LogSettings())
    run_server(
        optimize,
        RestOptions(
            full=full,
            host=host,
            port=port,
            state_file=state_file,
            token_file=token_file,
            max_body_mb=max_body_mb,
            plugins=frozenset(plugin or ()),
            queue_model=queue_model,
            time_limit_s=limits.time_limit_s,
            gap=limits.gap,
        ),
    )
