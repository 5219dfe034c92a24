"""Planning questions: the same system with other loads, cards or prices.

A change is PART.NAME=VALUE: `capacity.TYPE` (cards), `cost.ACCELERATOR` (cents/hour) or
`load.SERVER` (requests/minute). VALUE is a number, or a change of what is there: +8, -8, x1.5.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.solution import Solution
from controlloop.api.spec_types import LARGEST_COUNT, LARGEST_NUMBER
from controlloop.api.system import Allocation, Server, System
from controlloop.errors import InputError, Problem
from controlloop.units import rpm_from_rps, rps_from_rpm

_FORM: Final = re.compile(
    r"(?P<part>\w+)\.(?P<name>.+)=(?P<sign>[-+x]?)(?P<number>\d+\.?\d*(e[-+]?\d+)?|\.\d+)",
    re.IGNORECASE,
)
_USAGE: Final = "must be capacity.TYPE, cost.ACCELERATOR or load.SERVER, = and 8, +8, -8 or x1.5"


@dataclass(frozen=True, slots=True)
class _Change:
    text: str
    part: str
    name: str
    sign: str
    number: float

    def of(self, before: float) -> float:
        """What becomes of a value."""
        match self.sign:
            case "+":
                return before + self.number
            case "-":
                return before - self.number
            case "x" | "X":
                return before * self.number
        return self.number


def scaled(system: System, factor: float) -> System:
    """`system` with every arrival rate multiplied; a TPS target asks for what it asked before.

    Raises:
        InputError: the factor is no number >= 0, or makes a load too large.

    """
    if not (math.isfinite(factor) and factor >= 0):
        raise InputError([Problem("scale", "must be a number >= 0", f"{factor:g}")])
    loads = [rpm_from_rps(server.current.load.rate_rps) * factor for server in system.servers]
    if any(load > LARGEST_NUMBER for load in loads):
        rule = f"makes a load greater than {LARGEST_NUMBER:g} req/min"
        raise InputError([Problem("scale", rule, f"{factor:g}")])
    servers = (_with_rate(each, each.current.load.rate_rps * factor) for each in system.servers)
    return replace(system, servers=tuple(servers))


def changed(system: System, changes: Iterable[str]) -> System:
    """`system` with `changes` made one after the other; see the module for their form.

    A new cost of an accelerator counts for what runs on it now, too.

    Raises:
        InputError: every change that cannot be made, with the reason; nothing was changed.

    """
    problems: list[Problem] = []
    for text in changes:
        try:
            system = _changed(system, _read(text))
        except ValueError as error:
            problems.append(Problem(f"what-if {text}", str(error)))
    if problems:
        raise InputError(problems)
    return system


def with_allocations(system: System, solution: Solution) -> System:
    """`system` with what `solution` allocates running; who got nothing keeps what it has."""
    servers = (
        replace(each, current=solution.allocations.get(each.name, each.current), desired=None)
        for each in system.servers
    )
    return replace(system, servers=tuple(servers))


def _read(text: str) -> _Change:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(_USAGE)
    number = float(found["number"])
    return _Change(text, found["part"].lower(), found["name"], found["sign"], number)


def _changed(system: System, change: _Change) -> System:
    apply = _PARTS.get(change.part)
    if apply is None:
        raise ValueError(_USAGE)
    return apply(system, change)


def _capacity(system: System, change: _Change) -> System:
    known = dict.fromkeys((*system.capacity, *(each.type for each in system.accelerators)))
    _check_name("card type", change.name, known)
    cards = _within(change.of(system.capacity.get(change.name, 0)), LARGEST_COUNT, "cards")
    if not cards.is_integer():
        raise ValueError(f"must be a whole number of cards, would be {cards:g}")
    return replace(system, capacity={**system.capacity, change.name: int(cards)})


def _cost(system: System, change: _Change) -> System:
    costs = {each.name: each.cost_per_hour for each in system.accelerators}
    _check_name("accelerator", change.name, costs)
    before = costs[change.name]
    after = _within(change.of(before), LARGEST_NUMBER, "cents/h")
    accelerators = tuple(
        replace(each, cost_per_hour=after) if each.name == change.name else each
        for each in system.accelerators
    )
    servers = system.servers
    if before > 0:
        servers = tuple(
            replace(each, current=_repriced(each.current, change.name, after / before))
            for each in servers
        )
    return replace(system, accelerators=accelerators, servers=servers)


def _load(system: System, change: _Change) -> System:
    rates = {each.name: rpm_from_rps(each.current.load.rate_rps) for each in system.servers}
    _check_name("server", change.name, rates)
    rate_rpm = _within(change.of(rates[change.name]), LARGEST_NUMBER, "req/min")
    servers = tuple(
        _with_rate(each, rps_from_rpm(rate_rpm)) if each.name == change.name else each
        for each in system.servers
    )
    return replace(system, servers=servers)


_PARTS: Final[Mapping[str, Callable[[System, _Change], System]]] = {
    "capacity": _capacity,
    "cost": _cost,
    "load": _load,
}


def _with_rate(server: Server, rate_rps: float) -> Server:
    load = replace(server.current.load, rate_rps=rate_rps)
    return replace(server, current=replace(server.current, load=load))


def _repriced(current: Allocation, accelerator: str, factor: float) -> Allocation:
    """What runs now at another price of one accelerator."""
    variants = tuple(
        replace(each, cost_per_hour=each.cost_per_hour * factor)
        if each.accelerator == accelerator
        else each
        for each in current.variants
    )
    own = factor if current.accelerator == accelerator else 1.0
    return replace(current, cost_per_hour=current.cost_per_hour * own, variants=variants)


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1)
        raise ValueError(
            f'there is no {what} "{name}"' + (f"; did you mean {nearest[0]}?" if nearest else "")
        )


def _within(value: float, most: float, unit: str) -> float:
    if not 0 <= value <= most:
        raise ValueError(f"must be from 0 to {most:g} {unit}, would be {value:g}")
    return value
