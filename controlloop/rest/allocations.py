"""Optimizing what the state holds, and what becomes of the answer in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from controlloop.api.convert import spec_from_solution, system_from_spec
from controlloop.api.solution import Solution
from controlloop.api.specs import (
    AllocationData,
    AllocationSolution,
    OptimizerSpec,
    ServerData,
    ServerSpec,
    SystemData,
)
from controlloop.api.system import System
from controlloop.rest.explaining import Explain, Wanted
from controlloop.rest.state import State
from controlloop.rest.tables import table

Optimize: TypeAlias = Callable[[System], Solution]


def of_state(state: State, flags: OptimizerSpec) -> tuple[State, OptimizerSpec]:
    """What `/optimize` works on: the state as it is."""
    return state, flags


def of_system(_: State, data: SystemData) -> tuple[State, OptimizerSpec]:
    """What `/optimizeOne` works on: the system that it is given."""
    return State.of(data.system), data.system.optimizer_data.optimizer


def solve(
    state: State,
    flags: OptimizerSpec,
    optimize: Optimize,
    explain: Explain,
    wanted: Wanted,
) -> AllocationSolution:
    """Optimize what `state` holds, and explain what is `wanted`; the state does not change.

    Raises:
        UnknownNameError: a server is to be explained that is not there.

    """
    system = system_from_spec(SystemData(system=state.system(flags)))
    wanted.check(system)
    solution = optimize(system)
    explanations = wanted.documents(system, solution, explain)
    form = spec_from_solution(solution, with_solver=wanted.solver)
    return form.model_copy(update={"explanations": explanations})


def with_desired(now: State, then: State, solution: AllocationSolution) -> State:
    """`now` with the desired allocations that were found for what was `then`.

    Only servers that still are what they were, whatever they were to become, get what was
    found for them. One that nothing was found for desires nothing: it keeps what it has.
    """
    return replace(
        now,
        servers=table(
            (name, _desiring(server, solution.allocations.get(name)))
            if _same(server, then.servers.get(name))
            else (name, server)
            for name, server in now.servers.items()
        ),
    )


def apply_allocation(state: State, _: None) -> tuple[State, ServerData]:
    """Make desired allocations current; a server that desires nothing keeps what it has."""
    after = replace(
        state, servers=table((name, _applied(server)) for name, server in state.servers.items())
    )
    return after, after.server_data


def _applied(server: ServerSpec) -> ServerSpec:
    if server.desired_alloc is None:
        return server
    return server.model_copy(update={"current_alloc": server.desired_alloc})


def _desiring(server: ServerSpec, allocation: AllocationData | None) -> ServerSpec:
    return server.model_copy(update={"desired_alloc": allocation})


def _same(server: ServerSpec, other: ServerSpec | None) -> bool:
    if server is other:
        return True
    return other is not None and _desiring(server, None) == _desiring(other, None)
