"""Tables that fit a terminal; colours only on one."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from controlloop.api.decision import Action, Decision
from controlloop.units import rpm_from_rps

LEAST_WIDTH: Final = 80
UNKNOWN: Final = "?"

STYLES = {
    Action.SCALE_UP: "green",
    Action.SCALE_DOWN: "cyan",
    Action.SWITCH: "magenta",
    Action.HOLD: "yellow",
}


def plain_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table in the project's look; the columns in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    numbers = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def decisions_table(decisions: Iterable[Decision], known: Container[str]) -> Table:
    """One row a server: what becomes of it, and why; `known` are those whose load is known."""
    table = plain_table(
        "Server", "Action", "On", "Replicas", "Req/min", "Reason", right=("Replicas", "Req/min")
    )
    for decision in decisions:
        before, after = decision.current.replicas, decision.desired.replicas
        table.add_row(
            decision.server,
            Text(str(decision.action), style=STYLES.get(decision.action, "dim")),
            decision.desired.accelerator or "-",
            str(before) if before == after else f"{before} -> {after}",
            _rate(decision) if decision.server in known else UNKNOWN,
            decision.reason,
        )
    return table


def _rate(decision: Decision) -> str:
    return f"{rpm_from_rps(decision.desired.load.rate_rps):.1f}"


def print_tables(*parts: RenderableType) -> None:
    """Print to standard output, as wide as the terminal, or 120 columns where there is none.

    A narrower terminal breaks the lines itself: squeezed further, a table would drop names and
    cut numbers. Text is shown as it is: a name that looks like a style or a sign is none.
    """
    console = Console()
    width = max(console.width, LEAST_WIDTH) if console.is_terminal else 120
    console = Console(width=width, markup=False, emoji=False)
    for part in parts:
        console.print(part)
