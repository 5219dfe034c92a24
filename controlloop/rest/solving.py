"""Runs the commands: reads at once, changes one by one, optimizations beside them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from controlloop.api.specs import AllocationSolution, Form, OptimizerSpec
from controlloop.errors import InputError, Problem, UnknownPluginError
from controlloop.rest.allocations import Optimize, solve, with_desired
from controlloop.rest.commands import Command, Kind
from controlloop.rest.explaining import Explain, Wanted
from controlloop.rest.state import State, Store

Result = TypeVar("Result")


class Runner:
    """Runs commands on a store, in threads, so that a long one holds up no other.

    Args:
        store: the state.
        optimize: the optimizer.
        explain: says why, where somebody asks.
        at_once: optimizations that run at the same time; others wait their turn.
        plugins: "module:Factory" that requests may name.

    """

    def __init__(
        self,
        store: Store,
        optimize: Optimize,
        explain: Explain,
        at_once: int,
        plugins: AbstractSet[str] = frozenset(),
    ) -> None:
        self._store = store
        self._optimize = optimize
        self._explain = explain
        self._plugins = plugins
        self._changes = CapacityLimiter(2)
        self._solves = CapacityLimiter(at_once)

    async def run(
        self, command: Command, argument: Callable[[], Any], wanted: Wanted
    ) -> Form | tuple[str, ...]:
        """Run `command` on what `argument` reads, in its own kind's threads.

        What is `wanted` counts for commands that optimize.

        Raises:
            ControlLoopError: what reading the argument or the command itself refuses.

        """
        match command.kind:
            case Kind.READ:
                return await _in_thread(None, lambda: command.act(self._store.now, argument())[1])
            case Kind.CHANGE:
                return await _in_thread(self._changes, lambda: self._change(command, argument()))
        # Read first: a bad body need not wait its turn.
        given = await _in_thread(self._changes, argument)
        return await _in_thread(self._solves, partial(self._solve, command, given, wanted))

    def _change(self, command: Command, argument: Any) -> Any:
        return self._store.change(lambda state: command.act(state, argument))

    def _solve(self, command: Command, argument: Any, wanted: Wanted) -> AllocationSolution:
        then, flags = command.act(self._store.now, argument)
        if problems := tuple(_foreign(then, flags, self._plugins)):
            raise InputError(problems)
        solution = self._solved(then, flags, wanted)
        if command.kind is Kind.OPTIMIZE_ONE:
            return self._store.change(lambda _: (with_desired(then, then, solution), solution))
        return self._store.change(lambda now: (with_desired(now, then, solution), solution))

    def _solved(self, state: State, flags: OptimizerSpec, wanted: Wanted) -> AllocationSolution:
        try:
            return solve(state, flags, self._optimize, self._explain, wanted)
        except UnknownPluginError as error:
            problem = Problem("solver", str(error), f'"{flags.solver}"')
            raise InputError([problem]) from error


def _foreign(state: State, flags: OptimizerSpec, plugins: AbstractSet[str]) -> Iterator[Problem]:
    # Loading a plug-in runs whatever it names: who may ask need not be who may run code here.
    rule = "is no plug-in that this server was started with (--plugin)"
    named = [("solver", flags.solver)]
    for model, by_accelerator in state.models.items():
        for accelerator, perf in by_accelerator.items():
            named.append((f"models[{model}][{accelerator}].queueModel", perf.queue_model))
    for path, name in named:
        if name and ":" in name and name not in plugins:
            yield Problem(path, rule, f'"{name}"')


async def _in_thread(limiter: CapacityLimiter | None, work: Callable[[], Result]) -> Result:
    return await to_thread.run_sync(work, limiter=limiter)
