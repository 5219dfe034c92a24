"""What each object's status should say after one optimization: conditions with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlloop.api.convert import spec_from_allocation
from controlloop.api.references import ReferenceWarning, check_references
from controlloop.api.solution import Solution, Unserved
from controlloop.runtime_controller.assembly import (
    OPTIMIZER,
    SERVER,
    Assembled,
    Object,
    key_of,
)

READY: Final = "Ready"
DEGRADED: Final = "Degraded"
LONGEST_MESSAGE: Final = 1024


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A status that differs from what the object has; `news` is worth an event where not ""."""

    object: Object
    status: Mapping[str, Any]
    reason: str
    message: str
    news: bool


@dataclass(frozen=True, slots=True)
class _State:
    """What the conditions of one object say."""

    ready: bool
    degraded: bool
    reason: str
    message: str


_VALID: Final = _State(ready=True, degraded=False, reason="Valid", message="")


def status_changes(
    optimizer: Object,
    objects: Iterable[Object],
    assembled: Assembled,
    solution: Solution | None,
    failure: str,
    now: str,
) -> Iterator[StatusChange]:
    """The statuses that have to be written.

    Args:
        optimizer: the Optimizer.
        objects: all objects that belong to it, itself left out.
        assembled: what they say together.
        solution: what was decided; None where nothing could be.
        failure: why not; "" where it could.
        now: the time of a condition that changes, as the API writes times.

    """
    everything = (*objects, optimizer)
    if solution is None or assembled.system is None:
        for each in everything:
            yield from _change(each, _undecided(each, optimizer, assembled, failure), {}, now)
        return
    unserved = {entry.server: entry for entry in solution.unserved}
    warnings = _by_server(check_references(assembled.system), assembled)
    names = {key: name for name, key in assembled.servers.items()}
    for each in everything:
        name = names.get(key_of(each))
        if each is optimizer:
            state, own = _optimized(solution, len(names)), _summary(solution, len(names))
        elif name is not None:
            state = _served(name, unserved.get(name), solution, warnings.get(name, ()))
            own = _allocated(name, optimizer, solution)
        else:
            state, own = _VALID, {}
        yield from _change(each, state, own, now)


def orphan_change(server: Object, now: str) -> Iterator[StatusChange]:
    """The status of a Server that no Optimizer selects."""
    told = "no Optimizer of this namespace selects it; nothing is decided"
    state = _State(ready=False, degraded=True, reason="NoOptimizer", message=told)
    yield from _change(server, state, {}, now)


def _undecided(each: Object, optimizer: Object, assembled: Assembled, failure: str) -> _State:
    """Nothing was decided: who is wrong says so, the others say who."""
    own = assembled.problems.get(key_of(each), ())
    if own:
        return _State(ready=False, degraded=True, reason="Invalid", message="; ".join(own))
    if each["kind"] not in (SERVER, OPTIMIZER):
        # Several Optimizers may share it: what becomes of one of them is not its matter.
        return _VALID
    if each is not optimizer:
        wait = f"nothing is decided now; see Optimizer {optimizer['metadata']['name']}"
        return _State(ready=False, degraded=True, reason="NotOptimized", message=wait)
    if failure:
        return _State(ready=False, degraded=True, reason="Failed", message=failure)
    wrong = ", ".join(sorted(f"{kind} {name}" for kind, name in assembled.problems))
    told = f"nothing is decided while these are wrong: {wrong}; allocations stay as they are"
    return _State(ready=False, degraded=True, reason="InvalidObjects", message=told)


def _optimized(solution: Solution, servers: int) -> _State:
    short = len(solution.unserved)
    served = f"{servers - short} of {servers} servers get what they need"
    told = f"{served}; {solution.message}" if solution.message else served
    reason = "Unserved" if short else "Optimized"
    return _State(ready=True, degraded=bool(short), reason=reason, message=told)


def _served(
    name: str, entry: Unserved | None, solution: Solution, warnings: Iterable[str]
) -> _State:
    told = "; ".join(warnings)
    if entry is None:
        return _State(ready=True, degraded=bool(told), reason="Allocated", message=told)
    partly = name in solution.allocations
    reason = "".join(word.capitalize() for word in entry.reason.split("-"))
    message = "; ".join(each for each in (entry.detail, told) if each)
    return _State(ready=partly, degraded=True, reason=reason, message=message)


def _by_server(
    warnings: Iterable[ReferenceWarning], assembled: Assembled
) -> Mapping[str, list[str]]:
    system = assembled.system
    found: dict[str, list[str]] = {}
    for warning in warnings:
        if system is not None and warning.path.startswith("servers["):
            index = int(warning.path.removeprefix("servers[").partition("]")[0])
            found.setdefault(system.servers[index].name, []).append(str(warning))
    return found


def _allocated(name: str, optimizer: Object, solution: Solution) -> dict[str, Any]:
    own: dict[str, Any] = {"optimizer": optimizer["metadata"]["name"]}
    allocation = solution.allocations.get(name)
    if allocation is not None:
        own["allocation"] = spec_from_allocation(allocation).document()
    return own


def _summary(solution: Solution, servers: int) -> dict[str, Any]:
    cost = sum(each.total_cost_per_hour for each in solution.allocations.values())
    own: dict[str, Any] = {
        "servers": servers,
        "unserved": len(solution.unserved),
        "cost": round(cost, 6),
        "solver": solution.solver,
        "solutionStatus": str(solution.status),
    }
    return own if solution.gap is None else {**own, "gap": solution.gap}


def _change(
    each: Object, state: _State, own: Mapping[str, Any], now: str
) -> Iterator[StatusChange]:
    """The status to write, if it says anything new; what is not decided anew stays."""
    before: Mapping[str, Any] = each.get("status") or {}
    generation = each["metadata"].get("generation", 0)
    message = state.message[:LONGEST_MESSAGE]
    conditions = [
        _condition(before, READY, state.ready, state.reason, message, generation, now),
        _condition(before, DEGRADED, state.degraded, state.reason, message, generation, now),
    ]
    status = {**before, **own, "observedGeneration": generation, "conditions": conditions}
    if status == before:
        return
    told = _told(before)
    news = told != (state.reason, message) and (told is not None or state.degraded)
    moved = own.get("allocation") != before.get("allocation") and "allocation" in own
    yield StatusChange(each, status, state.reason, message, news or moved)


def _told(status: Mapping[str, Any]) -> tuple[str, str] | None:
    for each in status.get("conditions") or ():
        if each["type"] == READY:
            return each["reason"], each["message"]
    return None


def _condition(
    before: Mapping[str, Any],
    kind: str,
    holds: bool,  # noqa: FBT001 - the condition's own value
    reason: str,
    message: str,
    generation: int,
    now: str,
) -> dict[str, Any]:
    value = "True" if holds else "False"
    same = next((one for one in before.get("conditions") or () if one["type"] == kind), None)
    since = same["lastTransitionTime"] if same and same["status"] == value else now
    return {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
