"""`controlloop simulate`: a fleet under a workload, every iteration of every engine."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlloop.cli.run import Format
from controlloop.cli.tables import print_tables
from controlloop.errors import InputError, Problem
from controlloop.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from controlloop.simulator.demo import Engine
    from controlloop.simulator.fleet_run import FleetRun

EXAMPLES = """
Examples:

  controlloop simulate --hours 2                          the demo's fleet, from midnight on

  controlloop simulate --data config/data --workload burst --hours 1

  controlloop simulate --trace requests.csv --load 0.5 --no-control --format json

  controlloop simulate --serve --port 9100 --speed 10     metrics for a real Prometheus

With --serve, Prometheus finds the replicas by itself:

  http_sd_configs: [{url: "http://127.0.0.1:9100/targets"}]
"""


class Routing(StrEnum):
    """How requests find a replica."""

    LEAST_LOADED = "least-loaded"
    ROUND_ROBIN = "round-robin"
    POWER_OF_TWO = "power-of-two"


def simulate(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the data files; default: the demo's fleet.")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(help="diurnal, burst, step, steady, or 'module:Factory', about each load."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="CSV of requests: time, input tokens, output tokens; to each load."),
    ] = None,
    load: Annotated[
        float,
        typer.Option(help="Times the load that the data gives each server.", min=0.001, max=1e6),
    ] = 1.0,
    hours: Annotated[float, typer.Option(help="Simulated hours.", min=0.01, max=8784)] = 1.0,
    period: Annotated[
        float, typer.Option(help="Seconds from one control cycle to the next.", min=10, max=3600)
    ] = 60.0,
    seed: Annotated[
        int, typer.Option(help="Chance: equal seeds give equal reports.", min=0, max=2**32)
    ] = 1,
    router: Annotated[Routing, typer.Option(help="How requests find a replica.")] = (
        Routing.LEAST_LOADED
    ),
    noise: Annotated[
        float, typer.Option(help="Relative deviation of an iteration's time.", min=0, max=2)
    ] = 0.05,
    startup_cv: Annotated[
        float, typer.Option(help="Coefficient of variation of start-up times.", min=0, max=3)
    ] = 0.0,
    control: Annotated[
        bool,
        typer.Option("--control/--no-control", help="Run the control loop, or leave it alone."),
    ] = True,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep up with the clock and serve each replica's page.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address that --serve listens on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of --serve; 0 takes a free one.", min=0, max=65535)
    ] = 9100,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds in a second of --serve.", min=0.01, max=1000)
    ] = 1.0,
    output: Annotated[
        Format, typer.Option("--format", help="How the result is printed.")
    ] = Format.TABLE,
) -> None:
    """Simulate a fleet of inference servers under a workload, with the production control loop.

    Requests wait in a queue, are batched, prefilled in chunks and decoded iteration by iteration;
    replicas start up and drain. Servers start as the optimizer would run them at their first
    load. Without --workload and --trace, each gets the day that traffic-data.json describes, or
    a steady load.

    Exit code 1: a cycle failed, or the fleet does not fit on its cards. Exit code 2: bad input.
    """
    from controlloop.composition.loop import demo_engine
    from controlloop.settings.tree import Settings
    from controlloop.simulator.engine.layout import Router
    from controlloop.simulator.event_server import EngineOptions
    from controlloop.telemetry import set_up_logs

    _check(hours, period, workload, trace)
    settings = Settings()
    set_up_logs(settings.log)
    engine = demo_engine(settings)
    fleet = _fleet(data, workload, trace, load, hours, engine)
    options = EngineOptions(noise=noise, router=Router[router.name], startup_cv=startup_cv)
    fleet = replace(fleet, seed=seed, options=options)
    if serve:
        _serve(fleet, engine if control else None, hours, period, (host, port), speed)
        return
    cycles = int(hours * SECONDS_PER_HOUR // period)
    from controlloop.cli.simulate_report import document, tables

    if control:
        run, course = fleet.controlled(engine.build_loop, cycles, period)
    else:
        run, course = fleet.left_alone(cycles, period), None
    if output is Format.JSON:
        typer.echo(json.dumps(document(run, course), indent=2))
    else:
        print_tables(*tables(run, course))
    if course is not None and course.failures:
        raise typer.Exit(1)


# Paragraphs as one line each: the terminal's width says where they break.
simulate.__doc__ = f"{inspect.cleandoc(simulate.__doc__ or '')}\n{EXAMPLES}"


def _check(hours: float, period: float, workload: str | None, trace: Path | None) -> None:
    problems = []
    if hours * SECONDS_PER_HOUR < period:
        rule = f"must hold at least one period of {period:g} s"
        problems.append(Problem("--hours", rule, f"{hours:g}"))
    if workload is not None and trace is not None:
        problems.append(Problem("--trace", "cannot be given together with --workload", str(trace)))
    if problems:
        raise InputError(problems)


def _fleet(
    data: Path | None,
    workload: str | None,
    trace: Path | None,
    load: float,
    hours: float,
    engine: Engine,
) -> FleetRun:
    import numpy as np

    from controlloop.backtest.workloads import workloads as shapes
    from controlloop.simulator.asked import generated, mean_rates_rps, scaled, traced
    from controlloop.simulator.demo import demo_workloads
    from controlloop.simulator.fleet import DATA, fleet_at, read_fleet
    from controlloop.simulator.fleet_run import FleetRun
    from controlloop.simulator.workloads.requests import Workload

    fleet = scaled(read_fleet(data or DATA), load)
    rates = mean_rates_rps(fleet)
    asked: tuple[Workload, ...]
    if trace is not None:
        fleet, asked = traced(fleet, trace)
    elif workload is not None:
        asked = generated(fleet, partial(shapes().create, workload), hours * SECONDS_PER_HOUR)
    else:
        asked = demo_workloads(fleet)
        midnight = np.zeros(1)
        rates = np.array([float(curve.mean_rps(midnight)[0]) for curve in fleet.curves])
    servers = fleet_at(fleet, rates, engine.optimizer)
    return FleetRun(fleet.catalog, fleet.truth, servers, asked)


def _serve(
    fleet: FleetRun,
    engine: Engine | None,
    hours: float,
    period: float,
    address: tuple[str, int],
    speed: float,
) -> None:
    """Until the hours are over, or the process is asked to end."""
    import signal
    import threading

    from controlloop.clock import ManualClock, SystemClock
    from controlloop.rest.server import HttpServer
    from controlloop.simulator.live import LiveFleet
    from controlloop.simulator.pages import TARGETS, Pages

    plant, clock = replace(fleet, step_s=1.0).plant(), ManualClock()
    loop = None if engine is None else fleet.loop(engine.build_loop, plant, clock)
    live = LiveFleet(plant, loop, clock, period, speed)
    server = HttpServer(Pages(live.look), *address)
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    server.start()
    sys.stderr.write(f"serving http://{address[0]}:{server.port}{TARGETS}\n")
    try:
        live.run(SystemClock(), hours * SECONDS_PER_HOUR, stop)
    finally:
        server.stop()
