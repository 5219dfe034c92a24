"""Explanations beside an answer, where the query asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.datastructures import QueryParams

from controlloop.api.explanation import Explanation
from controlloop.api.explanation_document import explanation_document
from controlloop.api.solution import Solution
from controlloop.api.system import System
from controlloop.errors import InputError, Problem
from controlloop.rest.tables import find

Explain: TypeAlias = Callable[[System, Solution, Collection[str], bool], Mapping[str, Explanation]]

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}
PARAMETERS: Final = (
    {
        "name": "explain",
        "in": "query",
        "required": False,
        "description": "Servers to explain, by name, or true for all: answered in explanations.",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    {
        "name": "prices",
        "in": "query",
        "required": False,
        "description": "Whether explanations tell what one more card of each type would change.",
        "schema": {"type": "boolean", "default": False},
    },
    {
        "name": "solver",
        "in": "query",
        "required": False,
        "description": "Whether solver is answered even where there is nothing to know of it.",
        "schema": {"type": "boolean", "default": False},
    },
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which servers to explain, whether with shadow prices; whether to tell of the solver."""

    servers: tuple[str, ...] = ()
    everyone: bool = False
    prices: bool = False
    solver: bool = False

    @classmethod
    def of(cls, query: QueryParams) -> Wanted:
        """What the query of a request asks for.

        Raises:
            InputError: `prices` or `solver` is neither true nor false.

        """
        given = {each: query.get(each, "false") for each in ("prices", "solver")}
        problems = [
            Problem(each, "must be true or false", f'"{text}"')
            for each, text in given.items()
            if text.lower() not in _FLAGS
        ]
        if problems:
            raise InputError(problems)
        asked = query.getlist("explain")
        flags = [_FLAGS[each.lower()] for each in asked if each.lower() in _FLAGS]
        names = tuple(each for each in asked if each.lower() not in _FLAGS)
        prices, solver = (_FLAGS[text.lower()] for text in given.values())
        return cls(names, any(flags), prices, solver)

    def check(self, system: System) -> None:
        """See that `system` has all the servers that are named.

        Raises:
            UnknownNameError: it has not.

        """
        known = {each.name: each for each in system.servers}
        for name in self.servers:
            find(known, name, "server")

    def documents(
        self, system: System, solution: Solution, explain: Explain
    ) -> dict[str, dict[str, Any]] | None:
        """Explanations by server, None where nobody asks for any."""
        if not (self.everyone or self.servers):
            return None
        names = [each.name for each in system.servers] if self.everyone else self.servers
        found = explain(system, solution, names, self.prices)
        return {name: explanation_document(each) for name, each in found.items()}
