"""Commands about what is asked for: classes of service with their targets, and servers.

Each takes the state and its argument and gives the new state and the answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from controlloop.api.reading import read
from controlloop.api.specs import (
    ModelTarget,
    ServerData,
    ServerSpec,
    ServiceClassData,
    ServiceClassSpec,
)
from controlloop.rest.names import Readings, choose
from controlloop.rest.state import State
from controlloop.rest.tables import UnknownNameError, find, put, table, without

# More digits than any priority needs, fewer than Python refuses to read.
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,1000}")


def set_classes(state: State, data: ServiceClassData) -> tuple[State, ServiceClassData]:
    """Replace all classes of service."""
    return replace(state, classes=table((each.name, each) for each in data.service_classes)), data


def get_classes(state: State, _: None) -> tuple[State, ServiceClassData]:
    """All classes of service."""
    return state, state.class_data


def get_class(state: State, name: str) -> tuple[State, ServiceClassSpec]:
    """One class of service."""
    return state, find(state.classes, name, "service class")


def add_class(state: State, readings: Readings) -> tuple[State, ServiceClassSpec]:
    """Add a class without targets; one that is there keeps its targets and gets the priority."""
    name, priority = readings[-1]
    document: dict[str, object] = {"name": name, "priority": priority}
    if _WHOLE_NUMBER.fullmatch(priority):
        document["priority"] = int(priority)
    given = read(ServiceClassSpec, document)
    old = state.classes.get(name)
    if old is not None:
        given = given.model_copy(update={"model_targets": old.model_targets})
    return replace(state, classes=put(state.classes, name, given)), given


def remove_class(state: State, name: str) -> tuple[State, ServiceClassSpec]:
    """Remove a class of service; servers that name it stay."""
    gone = find(state.classes, name, "service class")
    return replace(state, classes=without(state.classes, name)), gone


def add_targets(state: State, spec: ServiceClassSpec) -> tuple[State, ServiceClassSpec]:
    """Add targets to a class, or replace those of their models; its priority stays."""
    if spec.name not in state.classes:
        hint = "/addServiceClass and /setServiceClasses add classes"
        raise UnknownNameError(f'there is no service class "{spec.name}"; {hint}')
    old = state.classes[spec.name]
    targets = {each.model: each for each in (*old.model_targets, *spec.model_targets)}
    return _with_targets(state, old, tuple(targets.values()))


def get_target(state: State, readings: Readings) -> tuple[State, ModelTarget]:
    """The target of one model in one class."""
    return state, _target(state, readings)[1]


def remove_target(state: State, readings: Readings) -> tuple[State, ModelTarget]:
    """Remove the target of one model from one class."""
    owner, gone = _target(state, readings)
    left = tuple(each for each in owner.model_targets if each.model != gone.model)
    return _with_targets(state, owner, left)[0], gone


def set_servers(state: State, data: ServerData) -> tuple[State, ServerData]:
    """Replace all servers."""
    return replace(state, servers=table((each.name, each) for each in data.servers)), data


def get_servers(state: State, _: None) -> tuple[State, ServerData]:
    """All servers."""
    return state, state.server_data


def get_server(state: State, name: str) -> tuple[State, ServerSpec]:
    """One server."""
    return state, find(state.servers, name, "server")


def add_server(state: State, spec: ServerSpec) -> tuple[State, ServerSpec]:
    """Add a server, or replace the one of its name."""
    return replace(state, servers=put(state.servers, spec.name, spec)), spec


def remove_server(state: State, name: str) -> tuple[State, ServerSpec]:
    """Remove a server."""
    gone = find(state.servers, name, "server")
    return replace(state, servers=without(state.servers, name)), gone


def _with_targets(
    state: State, owner: ServiceClassSpec, targets: tuple[ModelTarget, ...]
) -> tuple[State, ServiceClassSpec]:
    changed = owner.model_copy(update={"model_targets": targets})
    return replace(state, classes=put(state.classes, owner.name, changed)), changed


def _target(state: State, readings: Readings) -> tuple[ServiceClassSpec, ModelTarget]:
    def known(name: str, model: str) -> bool:
        owner = state.classes.get(name)
        return owner is not None and any(each.model == model for each in owner.model_targets)

    name, model = choose(readings, known, 'target of class "{}" for model "{}"')
    owner = state.classes[name]
    return owner, next(each for each in owner.model_targets if each.model == model)
