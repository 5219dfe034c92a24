"""A solution for people: who gets what, who does not and why, what it costs and takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controlloop.api.cards import CardCounter
from controlloop.api.solution import Solution, Unserved
from controlloop.api.system import Allocation, Server, System, Tail, Target
from controlloop.cli.tables import plain_table, print_tables
from controlloop.units import kw_from_w, s_from_ms

_NUMBERS = ("Repl.", "Batch", "Cents/h", "ITL ms", "TTFT ms")
# Beyond this a latency is told in seconds.
_LONG_MS = 100_000.0


def print_solution(system: System, solution: Solution) -> None:
    """Print `solution` of `system`: allocations, reasons, cards and totals."""
    print_tables(*solution_parts(system, solution))


def solution_parts(system: System, solution: Solution) -> Iterator[RenderableType]:
    """What `print_solution` prints, part by part."""
    yield _allocations(system, solution)
    if solution.unserved:
        yield Group("Not served, or not whole:", _reasons(system, solution.unserved))
    yield Group("Cards:", _cards(system, solution))
    yield Text(_totals(system, solution))


def _allocations(system: System, solution: Solution) -> Table:
    table = plain_table("Server", "Class", "On", *_NUMBERS, right=_NUMBERS)
    # Where the terminal is narrow, names are folded and numbers stay whole.
    for column in table.columns[3:]:
        column.no_wrap = True
    table.padding = (0, 1, 0, 0)
    short = {entry.server for entry in solution.unserved}
    targets = {
        (service.name, target.model): target
        for service in system.classes
        for target in service.targets
    }
    for server in system.servers:
        target = targets.get((server.service_class, server.model), Target(server.model))
        found = solution.allocations.get(server.name)
        style = "" if server.name not in short else "red" if found is None else "yellow"
        cells = ("-",) * 6 if found is None else _cells(found, target)
        table.add_row(Text(server.name), Text(server.service_class), *cells, style=style)
    return table


def _cells(found: Allocation, target: Target) -> tuple[str, ...]:
    runs = bool(found.accelerator)
    parts = found.variants or (found,)
    return (
        " + ".join(part.accelerator for part in parts) or "none",
        " + ".join(str(part.replicas) for part in parts),
        " + ".join(str(part.max_batch) for part in parts) if runs else "-",
        f"{found.total_cost_per_hour:.2f}",
        _beside(found.itl_ms, found.itl_tail, target.itl_ms) if runs else "-",
        _beside(found.ttft_ms, found.ttft_tail, target.ttft_ms) if runs else "-",
    )


def _beside(mean_ms: float, tail: Tail | None, target_ms: float) -> str:
    """A prediction in three digits or more beside its target, if there is one.

    The mean, or the percentile that the target is of, with its name.
    """
    predicted_ms = mean_ms if tail is None else tail.ms
    if predicted_ms < _LONG_MS:
        text = f"{predicted_ms:.1f}" if predicted_ms < 100 else f"{predicted_ms:.0f}"
    else:
        text = f"{s_from_ms(predicted_ms):.0f} s"
    name = "" if tail is None else f"p{tail.percentile:g} "
    return name + text + (f" / {target_ms:g}" if target_ms > 0 else "")


def _reasons(system: System, unserved: Iterable[Unserved]) -> Table:
    servers = {server.name: server for server in system.servers}
    table = plain_table("Server", "Reason", "In words")
    for entry in unserved:
        words = entry.detail + _kept(servers[entry.server])
        table.add_row(Text(entry.server), str(entry.reason), Text(words))
    return table


def _kept(server: Server) -> str:
    current = server.current
    return f"; runs {current.replicas} of {current.accelerator}" if current.replicas else ""


def _cards(system: System, solution: Solution) -> Table:
    """Cards that the allocations take, of those there are; a type nobody uses is left out."""
    used = CardCounter(system).used(solution.allocations)
    table = plain_table("Type", "Used", "Capacity", right=("Used", "Capacity"))
    types = dict.fromkeys((*system.capacity, *used))
    for card_type in types:
        there = system.capacity.get(card_type, 0)
        if there or used[card_type]:
            beyond = used[card_type] > there
            style = "yellow" if beyond else ""
            table.add_row(Text(card_type), str(used[card_type]), str(there), style=style)
    return table


def _totals(system: System, solution: Solution) -> str:
    cost = sum(each.total_cost_per_hour for each in solution.allocations.values())
    now = sum(server.current.total_cost_per_hour for server in system.servers)
    served = len(solution.allocations.keys() - {entry.server for entry in solution.unserved})
    gap = "" if solution.gap is None else f", gap {solution.gap:.2%}"
    whole = f"{served} of {len(system.servers)} servers served whole"
    asked = solution.asked not in ("", solution.solver)
    solver = f"{solution.solver} instead of {solution.asked}" if asked else solution.solver
    found = f"{solver}: {solution.status}, total value {solution.objective:.2f}{gap}"
    power = f", {kw_from_w(solution.total_power_w):.2f} kW" if solution.power_w else ""
    lines = [
        f"{whole}, {cost:.2f} cents/h (now {now:.2f}){power}",
        f"{found}, {solution.seconds:.3f} s",
    ]
    return "\n".join(lines)
