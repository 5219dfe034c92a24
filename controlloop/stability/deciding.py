"""From a solution to one decision a server: what every policy has in common."""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.decision import Action, Decision, Problem, ServerConstraint
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.solution import Solution, Unserved, UnservedReason
from controlloop.api.system import Allocation, Server
from controlloop.stability.reasons import explain_change, explain_hold, explain_keep


def decide_all(problem: Problem, solution: Solution) -> tuple[Decision, ...]:
    """One decision for each server of the problem, in order of name."""
    unserved = {entry.server: entry for entry in solution.unserved}
    decisions = (
        decide(
            server,
            problem.holds[server.name],
            solution.allocations.get(server.name),
            unserved.get(server.name),
            problem.constraints[server.name],
        )
        for server in problem.system.servers
    )
    said = (
        replace(each, reason=f"{each.reason}; {problem.remarks[each.server]}")
        if each.server in problem.remarks
        else each
        for each in decisions
    )
    return tuple(sorted(said, key=lambda one: one.server))


def decide(
    server: Server,
    holds: tuple[Hold, ...],
    found: Allocation | None,
    shortfall: Unserved | None,
    constraint: ServerConstraint,
) -> Decision:
    """What becomes of one server.

    Args:
        server: the server with its current allocation.
        holds: everything that forbids a change of it.
        found: what the solver allocates, None where it allocates nothing.
        shortfall: why that is nothing, or less than the load needs; None where it is enough.
        constraint: what bounded the solver.

    """
    binding = tuple(hold for hold in holds if hold.forbids is Forbids.CHANGE)
    if found is None and not binding:
        binding = (_no_allocation(shortfall),)
        holds = holds + binding
    if binding or found is None:
        return _keep_current(server, holds, binding)
    action = _action(server.current, found)
    if action is Action.KEEP:
        return _stay(server, holds, found, shortfall)
    # The constraint forbade this already; a solver that ignores it is not obeyed.
    contrary = _contrary(action, server.current, found, holds)
    contrary = contrary or _out_of_bounds(action, found, constraint)
    if contrary:
        return _keep_current(server, tuple(dict.fromkeys(holds + contrary)), contrary)
    reason = explain_change(server, found, holds, shortfall)
    makes_room_for = () if shortfall is None else shortfall.takers
    return Decision(server.name, action, server.current, found, reason, holds, makes_room_for)


def is_elsewhere(current: Allocation, found: Allocation) -> bool:
    """Whether another accelerator or maximum batch is asked for than runs."""
    # A server that does not say its batch runs what the performance data says.
    batch = current.max_batch or found.max_batch
    return (found.accelerator, found.max_batch) != (current.accelerator, batch)


def _action(current: Allocation, found: Allocation) -> Action:
    if is_elsewhere(current, found):
        return Action.SWITCH
    if found.replicas > current.replicas:
        return Action.SCALE_UP
    return Action.SCALE_DOWN if found.replicas < current.replicas else Action.KEEP


def _contrary(
    action: Action, current: Allocation, found: Allocation, holds: tuple[Hold, ...]
) -> tuple[Hold, ...]:
    if action is Action.SWITCH:
        # A switch takes every running replica away.
        return holds
    way = Forbids.INCREASE if action is Action.SCALE_UP else Forbids.DECREASE
    return tuple(hold for hold in holds if hold.binds(way, current.replicas, found.replicas))


def _out_of_bounds(
    action: Action, found: Allocation, constraint: ServerConstraint
) -> tuple[Hold, ...]:
    least, most = constraint.min_replicas, constraint.max_replicas
    asked = f"the solver asks for {found.replicas} replicas"
    if found.replicas < least and action is not Action.SCALE_UP:
        return (Hold(HoldReason.AT_MINIMUM, Forbids.DECREASE, f"{asked}, {least} is the least"),)
    if most is not None and found.replicas > most and action is not Action.SCALE_DOWN:
        return (Hold(HoldReason.AT_MAXIMUM, Forbids.INCREASE, f"{asked}, {most} is the most"),)
    return ()


def _keep_current(server: Server, holds: tuple[Hold, ...], because: tuple[Hold, ...]) -> Decision:
    current = server.current
    return Decision(
        server.name, Action.HOLD, current, current, explain_hold(current, because), holds
    )


def _stay(
    server: Server, holds: tuple[Hold, ...], found: Allocation, shortfall: Unserved | None
) -> Decision:
    forbidding = _holding_back(holds, found.replicas, shortfall)
    reason = explain_keep(server, found, forbidding, shortfall)
    action = Action.HOLD if forbidding else Action.KEEP
    return Decision(server.name, action, server.current, found, reason, holds)


def _holding_back(
    holds: tuple[Hold, ...], replicas: int, shortfall: Unserved | None
) -> tuple[Hold, ...]:
    """What stands against one replica less, or, where more are needed, against one more."""
    found: list[Hold] = []
    # A single replica is the least there is: nothing holds back what nobody would do.
    if replicas > 1:
        found += (hold for hold in holds if hold.binds(Forbids.DECREASE, replicas, replicas - 1))
    if shortfall is not None and shortfall.reason is UnservedReason.AT_MAXIMUM:
        found += (hold for hold in holds if hold.binds(Forbids.INCREASE, replicas, replicas + 1))
    return tuple(found)


def _no_allocation(shortfall: Unserved | None) -> Hold:
    if shortfall is None:
        return Hold(HoldReason.NO_CANDIDATE, Forbids.CHANGE, "the solver gave no allocation")
    short_of_cards = shortfall.reason is UnservedReason.NO_CAPACITY
    reason = HoldReason.NO_CAPACITY if short_of_cards else HoldReason.NO_CANDIDATE
    return Hold(reason, Forbids.CHANGE, shortfall.detail)
