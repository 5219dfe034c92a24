"""Two answers side by side: a system as it is, and as it would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controlloop.api.cards import CardCounter
from controlloop.api.convert import spec_from_solution
from controlloop.api.solution import Solution
from controlloop.api.system import Allocation, System
from controlloop.cli.tables import plain_table, print_tables
from controlloop.units import kw_from_w


@dataclass(frozen=True, slots=True)
class Answer:
    """A system and its solution."""

    system: System
    solution: Solution

    @property
    def cost_per_hour(self) -> float:
        """Of all allocations, in cents/hour."""
        return sum(each.total_cost_per_hour for each in self.solution.allocations.values())

    @property
    def served(self) -> set[str]:
        """Servers that are served whole."""
        short = {each.server for each in self.solution.unserved}
        return set(self.solution.allocations) - short

    @property
    def cards(self) -> Counter[str]:
        """Cards in use by type."""
        return CardCounter(self.system).used(self.solution.allocations)


def comparison_document(
    before: Answer, after: Answer, *, with_solver: bool = False
) -> dict[str, Any]:
    """Both answers in their documented form, and what differs in sum.

    Costs in cents/hour, power in W; `served` counts servers that are served whole. `with_solver`
    always tells how the answers were found.
    """
    return {
        "before": spec_from_solution(before.solution, with_solver=with_solver).document(),
        "after": spec_from_solution(after.solution, with_solver=with_solver).document(),
        "difference": {
            "cost": after.cost_per_hour - before.cost_per_hour,
            "power": after.solution.total_power_w - before.solution.total_power_w,
            "served": len(after.served) - len(before.served),
            "changedServers": [
                server.name
                for server in after.system.servers
                if _runs(before, server.name) != _runs(after, server.name)
            ],
        },
    }


def print_comparison(before: Answer, after: Answer) -> None:
    """Print both answers side by side."""
    print_tables(*comparison_parts(before, after))


def comparison_parts(before: Answer, after: Answer) -> Iterator[RenderableType]:
    """What `print_comparison` prints, part by part."""
    yield _allocations(before, after)
    if after.solution.unserved:
        table = plain_table("Server", "Reason", "In words")
        for each in after.solution.unserved:
            table.add_row(Text(each.server), str(each.reason), Text(each.detail))
        yield Group("Not served then, or not whole:", table)
    yield Group("Cards:", _cards(before, after))
    yield _totals(before, after)


def _allocations(before: Answer, after: Answer) -> Table:
    columns = ("Server", "Class", "Before", "Cents/h", "After", "Cents/h ", "Change")
    table = plain_table(*columns, right=("Cents/h", "Cents/h ", "Change"))
    table.padding = (0, 1, 0, 0)
    for server in after.system.servers:
        old = before.solution.allocations.get(server.name)
        new = after.solution.allocations.get(server.name)
        change = (
            ""
            if old is None or new is None
            else _change(old.total_cost_per_hour, new.total_cost_per_hour)
        )
        same = _runs(before, server.name) == _runs(after, server.name)
        table.add_row(
            Text(server.name),
            Text(server.service_class),
            *_cells(before, server.name, old),
            *_cells(after, server.name, new),
            change,
            style="dim" if same else "",
        )
    return table


def _cells(answer: Answer, server: str, found: Allocation | None) -> tuple[str, str]:
    if found is None:
        return "not served", "-"
    short = "" if server in answer.served else ", short"
    parts = [f"{part.replicas} of {part.accelerator}" for part in found.variants or (found,)]
    runs = " + ".join(parts) if found.total_replicas else "none"
    return runs + short, f"{found.total_cost_per_hour:.2f}"


def _runs(answer: Answer, server: str) -> set[tuple[str, int]] | None:
    found = answer.solution.allocations.get(server)
    if found is None:
        return None
    return {(part.accelerator, part.replicas) for part in found.variants or (found,)}


def _change(before: float, after: float) -> str:
    return f"{after - before:+.2f}" if after != before else "="


def _cards(before: Answer, after: Answer) -> Table:
    columns = ("Type", "Used", "Capacity", "Used then", "Capacity then")
    table = plain_table(*columns, right=columns[1:])
    old, new = before.cards, after.cards
    for card_type in dict.fromkeys((*before.system.capacity, *after.system.capacity, *old, *new)):
        there = (
            before.system.capacity.get(card_type, 0),
            after.system.capacity.get(card_type, 0),
        )
        table.add_row(
            Text(card_type),
            str(old[card_type]),
            str(there[0]),
            str(new[card_type]),
            str(there[1]),
        )
    return table


def _totals(before: Answer, after: Answer) -> Table:
    table = plain_table("In all", "Before", "After", "Change", right=("Before", "After", "Change"))
    servers = len(before.system.servers)
    served = (len(before.served), len(after.served))
    cost = (before.cost_per_hour, after.cost_per_hour)
    power_kw = (kw_from_w(before.solution.total_power_w), kw_from_w(after.solution.total_power_w))
    share = f" ({cost[1] / cost[0] - 1:+.1%})" if cost[0] > 0 and cost[0] != cost[1] else ""
    table.add_row(
        "served whole",
        f"{served[0]} of {servers}",
        f"{served[1]} of {servers}",
        f"{served[1] - served[0]:+d}" if served[0] != served[1] else "=",
    )
    table.add_row("cents/h", f"{cost[0]:.2f}", f"{cost[1]:.2f}", _change(*cost) + share)
    if any(power_kw):
        table.add_row("kW", f"{power_kw[0]:.2f}", f"{power_kw[1]:.2f}", _change(*power_kw))
    solutions = (before.solution, after.solution)
    table.add_row("solver", *(f"{each.solver}: {each.status}" for each in solutions), "")
    return table
