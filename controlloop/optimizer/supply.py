"""Accelerators and performance data as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controlloop.api.covariance import is_covariance
from controlloop.api.power import PowerCurves
from controlloop.api.replicas import FloatArray, IntArray
from controlloop.api.system import (
    DEFAULT_QUEUE_MODEL,
    Accelerator,
    Objective,
    OptimizerOptions,
    PerfParameters,
    System,
)
from controlloop.errors import UnknownPluginError
from controlloop.protocols import QueueModel
from controlloop.queueing.confidence import Uncertainty

ModelSource = Callable[[str], QueueModel]


@dataclass(frozen=True, slots=True, eq=False)
class ModelGroup:
    """The performance data that one queue model evaluates: parameters (p, k).

    `uncertainty` is the covariance (p, k, k) of their logarithms with the confidence to plan
    with, None where they are planned with as they are.
    """

    model: QueueModel
    parameters: FloatArray
    uncertainty: Uncertainty | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """A accelerators of T card types, and P entries of performance data for M models.

    Attributes:
        accelerators: A names in the order that breaks ties.
        types: T names in the order in which accelerators name them.
        card_type: (A,) position in `types`.
        multiplicity: (A,) cards of one accelerator.
        cost_per_hour: (A,) of one accelerator.
        models: position of each model's name.
        perf: (M, A) position of the pair's performance data, -1 where there is none.
        max_batch: (P,) batch at `at_tokens`.
        at_tokens: (P,) tokens of a request at which `max_batch` was found.
        per_replica: (P,) accelerators of one replica.
        group: (P,) position in `groups`, -1 where the entry cannot be used.
        group_row: (P,) row of the group's parameters.
        note: (P,) position in `notes` of what is wrong, -1 where nothing is.
        groups: one for each queue model in use.
        notes: what is wrong, in words.
        power: of one accelerator.

    """

    accelerators: tuple[str, ...]
    types: tuple[str, ...]
    card_type: IntArray
    multiplicity: IntArray
    cost_per_hour: FloatArray
    models: dict[str, int]
    perf: IntArray
    max_batch: IntArray
    at_tokens: IntArray
    per_replica: IntArray
    group: IntArray
    group_row: IntArray
    note: IntArray
    groups: tuple[ModelGroup, ...]
    notes: tuple[str, ...]
    power: PowerCurves


def read_supply(system: System, model_of: ModelSource) -> Supply:
    """Accelerators and performance data of `system`; what is wrong with an entry is noted.

    Args:
        system: the system.
        model_of: gives the queue model of a name, or raises UnknownPluginError.

    """
    accelerators = {each.name: each for each in system.accelerators}
    position = {name: at for at, name in enumerate(accelerators)}
    models = {
        name: at
        for at, name in enumerate(
            dict.fromkeys(p.model for p in system.perf if p.accelerator in position)
        )
    }
    entries = [each for each in system.perf if each.accelerator in position]
    perf = np.full((len(models), len(accelerators)), -1, dtype=np.int64)
    sorter = _Sorter(model_of, system.options)
    for at, entry in enumerate(entries):
        perf[models[entry.model], position[entry.accelerator]] = at
        sorter.add(entry, accelerators[entry.accelerator])
    types = tuple(dict.fromkeys(each.type for each in accelerators.values()))
    return Supply(
        accelerators=tuple(accelerators),
        types=types,
        card_type=_whole([types.index(each.type) for each in accelerators.values()]),
        multiplicity=_whole([each.multiplicity for each in accelerators.values()]),
        cost_per_hour=np.array(
            [each.cost_per_hour for each in accelerators.values()], dtype=np.float64
        ),
        models=models,
        perf=perf,
        max_batch=_whole([each.max_batch for each in entries]),
        at_tokens=_whole([each.at_tokens for each in entries]),
        per_replica=_whole([each.accelerators_per_replica for each in entries]),
        group=_whole(sorter.group),
        group_row=_whole(sorter.group_row),
        note=_whole(sorter.note),
        groups=sorter.groups(),
        notes=tuple(sorter.notes),
        power=PowerCurves.of(accelerators.values()),
    )


def _whole(values: list[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def _queue_model(entry: PerfParameters) -> str:
    return entry.queue_model or DEFAULT_QUEUE_MODEL


class _Sorter:
    """Puts each entry of performance data into the group of its queue model."""

    def __init__(self, model_of: ModelSource, options: OptimizerOptions) -> None:
        self._model_of = model_of
        self._objective = options.objective
        self._confidence = options.confidence
        self._covariances: dict[str, list[FloatArray]] = {}
        self._models: dict[str, QueueModel | str] = {}
        self._rows: dict[str, list[tuple[float, ...]]] = {}
        self._order: list[str] = []
        self.group: list[int] = []
        self.group_row: list[int] = []
        self.note: list[int] = []
        self.notes: list[str] = []

    def add(self, entry: PerfParameters, accelerator: Accelerator) -> None:
        """Take one entry, or note why it cannot be used."""
        try:
            row = self._row(entry, accelerator)
            covariance = self._covariance(entry)
        except ValueError as error:
            self.note.append(len(self.notes))
            self.notes.append(f"{entry.model} on {entry.accelerator}: {error}")
            self.group.append(-1)
            self.group_row.append(-1)
            return
        name = _queue_model(entry)
        if name not in self._rows:
            self._rows[name], self._covariances[name] = [], []
            self._order.append(name)
        rows = self._rows[name]
        self.note.append(-1)
        self.group.append(self._order.index(name))
        self.group_row.append(len(rows))
        rows.append(row)
        self._covariances[name].append(covariance)

    def groups(self) -> tuple[ModelGroup, ...]:
        """One group for each queue model, in the order of `group`."""
        found = []
        for name in self._order:
            model = self._models[name]
            if not isinstance(model, str):
                rows = np.array(self._rows[name], dtype=np.float64)
                found.append(ModelGroup(model, rows, self._uncertainty(name)))
        return tuple(found)

    def _uncertainty(self, name: str) -> Uncertainty | None:
        if self._confidence <= 0:
            return None
        covariance = np.array(self._covariances[name])
        return Uncertainty(covariance, self._confidence) if covariance.any() else None

    def _covariance(self, entry: PerfParameters) -> FloatArray:
        """In the order of the queue model, zeros where it is not known or not asked for."""
        model = self._model(_queue_model(entry))
        wanted = () if isinstance(model, str) else model.parameter_names
        rows = entry.log_covariance
        if self._confidence <= 0 or not rows:
            return np.zeros((len(wanted), len(wanted)))
        if not is_covariance(rows, len(wanted)):
            size = len(wanted)
            raise ValueError(f"logCovariance must be a covariance, {size} rows of {size} numbers")
        order = [entry.parameter_names.index(name) for name in wanted]
        return np.asarray(rows, dtype=np.float64)[np.ix_(order, order)]

    def _model(self, name: str) -> QueueModel | str:
        if name not in self._models:
            try:
                self._models[name] = self._model_of(name)
            except UnknownPluginError as error:
                self._models[name] = str(error)
        return self._models[name]

    def _row(self, entry: PerfParameters, accelerator: Accelerator) -> tuple[float, ...]:
        """The parameters in the order of the queue model; ValueError says what is wrong."""
        model = self._model(_queue_model(entry))
        if isinstance(model, str):
            raise ValueError(model)  # noqa: TRY004 - the text is what is wrong with the value
        wanted, given = model.parameter_names, entry.parameter_names
        named = dict(zip(given, entry.parameters, strict=False))
        if len(given) != len(entry.parameters) or set(named) != set(wanted):
            raise ValueError(
                f'queue model "{_queue_model(entry)}" takes {", ".join(wanted)};'
                f" got {len(entry.parameters)} numbers as {', '.join(given) or 'nothing'}"
            )
        usual = _queue_model(entry) == DEFAULT_QUEUE_MODEL
        for name, number in named.items():
            if not math.isfinite(number):
                raise ValueError(f"{name} must be a number, got {number}")
            if usual and (number < 0 or (name == "alpha_ms" and number == 0)):
                least_of = "> 0" if name == "alpha_ms" else ">= 0"
                raise ValueError(f"{name} must be {least_of}, got {number:g}")
        for name, value, least in (
            ("maxBatchSize", entry.max_batch, 1),
            ("atTokens", entry.at_tokens, 1),
            ("accCount", entry.accelerators_per_replica, 1),
            ("the accelerator's multiplicity", accelerator.multiplicity, 1),
            ("the accelerator's cost", accelerator.cost_per_hour, 0),
        ):
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{name} must be >= {least}, got {value}")
        if self._objective is not Objective.COST and not accelerator.power.is_known:
            raise ValueError(
                f"the accelerator has no power data, which the objective {self._objective} needs"
            )
        return tuple(named[name] for name in wanted)
