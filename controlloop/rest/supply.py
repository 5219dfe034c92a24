"""Commands about what there is to run on: accelerators, capacities, models.

Each takes the state and its argument and gives the new state and the answer.
"""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.specs import (
    AcceleratorCount,
    AcceleratorData,
    AcceleratorSpec,
    CapacityData,
    ModelAcceleratorPerfData,
    ModelData,
)
from controlloop.errors import InputError, Problem
from controlloop.rest.names import Readings, choose
from controlloop.rest.state import State, models_of
from controlloop.rest.tables import UnknownNameError, empty, find, put, table, without


def set_accelerators(state: State, data: AcceleratorData) -> tuple[State, AcceleratorData]:
    """Replace all accelerators."""
    return replace(state, accelerators=table((each.name, each) for each in data.accelerators)), data


def get_accelerators(state: State, _: None) -> tuple[State, AcceleratorData]:
    """All accelerators."""
    return state, state.accelerator_data


def get_accelerator(state: State, name: str) -> tuple[State, AcceleratorSpec]:
    """One accelerator."""
    return state, find(state.accelerators, name, "accelerator")


def add_accelerator(state: State, spec: AcceleratorSpec) -> tuple[State, AcceleratorSpec]:
    """Add an accelerator, or replace the one of its name."""
    return replace(state, accelerators=put(state.accelerators, spec.name, spec)), spec


def remove_accelerator(state: State, name: str) -> tuple[State, AcceleratorSpec]:
    """Remove an accelerator; data that names it stays."""
    gone = find(state.accelerators, name, "accelerator")
    return replace(state, accelerators=without(state.accelerators, name)), gone


def set_capacities(state: State, data: CapacityData) -> tuple[State, CapacityData]:
    """Replace the capacities of all types."""
    return replace(state, capacities=table((each.type, each) for each in data.count)), data


def get_capacities(state: State, _: None) -> tuple[State, CapacityData]:
    """The capacities of all types."""
    return state, state.capacity_data


def get_capacity(state: State, type_: str) -> tuple[State, AcceleratorCount]:
    """The capacity of one type."""
    return state, find(state.capacities, type_, "capacity of type")


def set_capacity(state: State, count: AcceleratorCount) -> tuple[State, AcceleratorCount]:
    """Set the capacity of one type."""
    return replace(state, capacities=put(state.capacities, count.type, count)), count


def remove_capacity(state: State, type_: str) -> tuple[State, AcceleratorCount]:
    """Remove the capacity of one type: there are no cards of it then."""
    gone = find(state.capacities, type_, "capacity of type")
    return replace(state, capacities=without(state.capacities, type_)), gone


def set_models(state: State, data: ModelData) -> tuple[State, ModelData]:
    """Replace all models and their performance data."""
    return replace(state, models=models_of(data)), data


def get_models(state: State, _: None) -> tuple[State, tuple[str, ...]]:
    """The names of all models."""
    return state, tuple(state.models)


def get_model(state: State, name: str) -> tuple[State, ModelData]:
    """The performance data of one model on every accelerator."""
    perf = find(state.models, name, "model")
    return state, ModelData(models=tuple(perf.values()))


def add_model(state: State, name: str) -> tuple[State, ModelData]:
    """Add a model without performance data; one that is there keeps its data."""
    if not name:
        raise InputError([Problem("name", "must not be empty", '""')])
    perf = state.models.get(name, empty())
    return replace(state, models=put(state.models, name, perf)), ModelData(
        models=tuple(perf.values())
    )


def remove_model(state: State, name: str) -> tuple[State, ModelData]:
    """Remove a model and its performance data; servers and classes that name it stay."""
    _, gone = get_model(state, name)
    return replace(state, models=without(state.models, name)), gone


def get_perf(state: State, readings: Readings) -> tuple[State, ModelAcceleratorPerfData]:
    """The performance data of one model on one accelerator."""
    model, acc = _pair(state, readings)
    return state, state.models[model][acc]


def add_perf(
    state: State, spec: ModelAcceleratorPerfData
) -> tuple[State, ModelAcceleratorPerfData]:
    """Add performance data to a model, or replace that of its accelerator."""
    if spec.name not in state.models:
        hint = "/addModel and /setModels add models"
        raise UnknownNameError(f'there is no model "{spec.name}"; {hint}')
    perf = put(state.models[spec.name], spec.acc, spec)
    return replace(state, models=put(state.models, spec.name, perf)), spec


def remove_perf(state: State, readings: Readings) -> tuple[State, ModelAcceleratorPerfData]:
    """Remove the performance data of one model on one accelerator; the model stays."""
    model, acc = _pair(state, readings)
    perf = without(state.models[model], acc)
    return replace(state, models=put(state.models, model, perf)), state.models[model][acc]


def _pair(state: State, readings: Readings) -> tuple[str, str]:
    return choose(
        readings,
        lambda model, acc: acc in state.models.get(model, {}),
        'performance data of model "{}" on accelerator "{}"',
    )
