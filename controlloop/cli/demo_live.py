"""What the demo shows while it runs: a live table on a terminal, else a line an hour."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from controlloop.api.decision import Action, Decision
from controlloop.api.report import CycleReport
from controlloop.cli.demo_words import clock_time, dollars
from controlloop.cli.tables import STYLES, plain_table
from controlloop.simulator.demo import Demo
from controlloop.simulator.events import STEP_S
from controlloop.simulator.scoring import objectives
from controlloop.simulator.simulation import CycleRecord
from controlloop.simulator.tally import Tally
from controlloop.units import SECONDS_PER_HOUR, rpm_from_rps

BARS: Final = "▁▂▃▄▅▆▇█"
ASCII_BARS: Final = "_.-=+*%#"
MOST_SPARKS: Final = 18
LEAST_SPARKS: Final = 6
BETWEEN_COLUMNS: Final = 3
WIDTHS: Final = {
    "Server": 0,
    "Class": 8,
    "On": 6,
    "Load": 0,
    "Req/min": 7,
    "Replicas": 8,
    "TTFT ms": 11,
    "ITL ms": 8,
    "Last change": 14,
}
"""How wide each column is; the first by its names, the load by what is left."""
_NUMBERS: Final = ("Req/min", "Replicas", "TTFT ms", "ITL ms")
_LEFT_OUT_FIRST: Final = ("Class", "Last change")


@contextmanager
def watching(demo: Demo, *, live: bool) -> Iterator[Callable[[CycleRecord], None]]:
    """What to tell each moment to; `live` shows a table where standard error is a terminal."""
    board = Board(demo)
    console = Console(stderr=True)
    if not (live and console.is_terminal):
        yield lambda moment: _tell_hour(board, moment)
        return
    with Live(board, console=console, refresh_per_second=8, transient=True):
        yield board.see


def _tell_hour(board: Board, moment: CycleRecord) -> None:
    board.see(moment)
    time = board.time_of_day(moment.report.time)
    period_s = time / (moment.number + 1)
    into_hour_s = time % SECONDS_PER_HOUR
    if into_hour_s < period_s or moment.number + 1 == moment.cycles:
        sys.stderr.write(f"{board.line()}\n")


class Board:
    """The fleet at one moment: drawn anew by rich whenever the screen is."""

    def __init__(self, demo: Demo) -> None:
        self._pace = demo.options.pace
        self._servers = demo.servers
        self._aims = objectives(demo.servers, demo.catalog)
        self._tally = Tally(demo.servers, demo.catalog, STEP_S)
        self._fixed_per_hour = demo.fixed_cost_per_hour
        self._moment: CycleRecord | None = None
        self._rates: list[deque[float]] = [deque(maxlen=24 * 60) for _ in demo.servers]
        self._last: dict[str, tuple[float, Decision]] = {}

    def see(self, moment: CycleRecord) -> None:
        """Take in one cycle."""
        self._tally.add(moment.samples, moment.over)
        if moment.samples:
            rates = np.mean([one.arrived for one in moment.samples], axis=0) / STEP_S
            for past, rate in zip(self._rates, rates.tolist(), strict=True):
                past.append(rate)
        for decision in _changes(moment.report):
            self._last[decision.server] = (moment.report.time, decision)
        self._moment = moment

    def time_of_day(self, time: float) -> float:
        """Seconds since midnight of the load's day."""
        return time * self._pace

    def line(self) -> str:
        """The moment in one line."""
        moment = self._moment
        if moment is None or not moment.samples:
            return "starting"
        sample = moment.samples[-1]
        rate = sum(past[-1] for past in self._rates)
        return (
            f"{clock_time(self.time_of_day(moment.report.time))}  {rate:6.1f} requests/s  "
            f"{int(sample.held.sum()):3d} replicas  "
            f"{self._tally.attainment:7.2%} within objectives  "
            f"{dollars(self._tally.cost_per_hour, 2):>8}/h (fixed at its peak: "
            f"{dollars(self._fixed_per_hour, 2)}/h)"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table under the line, as wide as the screen allows."""
        moment = self._moment
        yield Text(self.line(), style="bold", no_wrap=True, overflow="ellipsis")
        if moment is None or not moment.samples:
            return
        yield ProgressBar(total=moment.cycles, completed=moment.number + 1)
        yield self._table(moment, ASCII_BARS if options.ascii_only else BARS, options.max_width)

    def _table(self, moment: CycleRecord, bars: str, width: int) -> Table:
        """One row a server; what does not fit in `width` is left out, names and numbers never."""
        shown, spark_width = _fitting(width, max(len(each.name) for each in self._servers))
        table = plain_table(*shown, right=_NUMBERS)
        sample = moment.samples[-1]
        for at, server in enumerate(self._servers):
            past = self._rates[at]
            row: dict[str, Text | str] = {
                "Server": server.name,
                "Class": server.service_class,
                "On": server.accelerator,
                "Load": _spark(past, bars, spark_width),
                "Req/min": f"{rpm_from_rps(past[-1]):.0f}",
                "Replicas": _replicas(int(sample.ready[at]), int(sample.held[at])),
                "TTFT ms": _against(float(sample.ttft_ms[at]), float(self._aims.ttft_ms[at])),
                "ITL ms": _against(float(sample.itl_ms[at]), float(self._aims.itl_ms[at])),
                "Last change": self._change(server.name),
            }
            table.add_row(*[row[column] for column in shown])
        return table

    def _change(self, server: str) -> Text:
        if server not in self._last:
            return Text("")
        time, decision = self._last[server]
        step = f"{decision.current.replicas} -> {decision.desired.replicas}"
        return Text(
            f"{clock_time(self.time_of_day(time))} {step}",
            style=STYLES.get(decision.action, ""),
            no_wrap=True,
        )


def _changes(report: CycleReport) -> Iterator[Decision]:
    if report.decisions is not None:
        for decision in report.decisions.decisions:
            if decision.action in (Action.SCALE_UP, Action.SCALE_DOWN):
                yield decision


def _replicas(ready: int, held: int) -> Text:
    text = Text(str(ready))
    if held > ready:
        text.append(f" +{held - ready}", style="yellow")
    return text


def _against(value: float, target: float) -> Text:
    if not np.isfinite(value):
        return Text("no replica", style="red")
    if not np.isfinite(target):
        return Text(f"{value:.0f}")
    return Text(f"{value:.0f} / {target:.0f}", style="red" if value > target else "green")


def _fitting(width: int, name_width: int) -> tuple[list[str], int]:
    """The columns that fit, and the bars that are left for the load."""
    shown = list(WIDTHS)
    for left_out in ("", *_LEFT_OUT_FIRST):
        shown = [column for column in shown if column != left_out]
        taken = name_width + sum(WIDTHS[column] for column in shown)
        sparks = width - taken - BETWEEN_COLUMNS * len(shown)
        if sparks >= LEAST_SPARKS:
            break
    return shown, min(max(sparks, LEAST_SPARKS), MOST_SPARKS)


def _spark(values: deque[float], bars: str, width: int) -> str:
    """The course of the load so far, in `width` bars of equal time."""
    parts = np.array_split(np.array(values), min(width, len(values)))
    means = [float(part.mean()) for part in parts]
    top = max(*means, 1e-9) if len(means) > 1 else max(means[0], 1e-9)
    return "".join(bars[min(int(mean / top * len(bars)), len(bars) - 1)] for mean in means)
