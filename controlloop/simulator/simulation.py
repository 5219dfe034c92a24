"""Drives a control loop over a plant: the production cycle under another clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from controlloop.api.decision import Action, Decision, PatchStatus
from controlloop.api.holds import HoldReason
from controlloop.api.report import CycleReport, Failure
from controlloop.api.system import System
from controlloop.clock import Clock, Deadline, ManualClock
from controlloop.protocols import Actuator, Sensor, Source
from controlloop.simulator.engine.server import Results
from controlloop.simulator.plant import Plant, StepSample


class ControlLoop(Protocol):
    """What is driven: one cycle at a time."""

    def run_once(self, now: float, deadline: Deadline, since: float = 0.0) -> CycleReport:
        """Observe, decide and act once."""
        ...


# Builds the production loop around a plant's sensor and actuator, under its clock.
LoopBuilder = Callable[[Source, Sensor, Actuator, Clock], ControlLoop]


@dataclass(frozen=True, slots=True)
class FixedSource:
    """Implements `protocols.Source` for a system that does not change."""

    system: System

    @property
    def problem(self) -> str | None:
        """Nothing is on disk that could differ."""
        return None

    def load(self) -> System:
        """The system."""
        return self.system


class CardHolder(Protocol):
    """What has cards."""

    @property
    def capacity(self) -> Mapping[str, int]:
        """Cards of each type that there are now."""
        ...


@dataclass(frozen=True, slots=True)
class PlantSource:
    """Implements `protocols.Source` for a system whose cards are a plant's."""

    system: System
    plant: CardHolder

    @property
    def problem(self) -> str | None:
        """Nothing is on disk that could differ."""
        return None

    def load(self) -> System:
        """The system, with the cards that there are now."""
        return replace(self.system, capacity=self.plant.capacity)


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One of `cycles`: its report, and what the plant did in the period before it.

    `number` counts from 0; `over` are the requests of each server that were over by then, each
    told once, of a plant that knows requests.
    """

    number: int
    cycles: int
    report: CycleReport
    samples: tuple[StepSample, ...]
    over: Mapping[str, Results] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A decision, and when it was made."""

    time: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Course:
    """How a simulation went.

    `holds` counts, by reason, the decisions that a hold stood against; `held` is the first of
    each.
    """

    samples: tuple[StepSample, ...]
    changes: tuple[Change, ...]
    failures: tuple[tuple[float, Failure], ...]
    holds: Mapping[HoldReason, int]
    held: Mapping[HoldReason, Change]


def simulate(
    plant: Plant,
    loop: ControlLoop,
    clock: ManualClock,
    cycles: int,
    period_s: float,
    watch: Callable[[CycleRecord], None] = lambda _: None,
    harvest: Callable[[], Mapping[str, Results]] = dict,
) -> Course:
    """Run `cycles` cycles, each at the end of a period.

    Args:
        plant: the fleet; its time is the clock's.
        loop: what controls it, built around the plant's sensor and actuator.
        clock: moved forward by a period before each cycle.
        cycles: how many.
        period_s: seconds from one to the next.
        watch: told of every cycle as it ends.
        harvest: gives the requests that are over, once each.

    """
    since = clock.now()
    samples: list[StepSample] = []
    changes: list[Change] = []
    failures: list[tuple[float, Failure]] = []
    holds: Counter[HoldReason] = Counter()
    held: dict[HoldReason, Change] = {}
    for number in range(cycles):
        clock.advance(period_s)
        steps = plant.advance_to(clock.now())
        report = loop.run_once(clock.now(), Deadline(clock, period_s), since)
        samples.extend(steps)
        changes.extend(changes_in(report))
        for change in _holding(report):
            for reason in {hold.reason for hold in change.decision.holds}:
                holds[reason] += 1
                held.setdefault(reason, change)
        if report.failure is not None:
            failures.append((report.time, report.failure))
        watch(CycleRecord(number, cycles, report, steps, harvest()))
    return Course(tuple(samples), tuple(changes), tuple(failures), holds, held)


def changes_in(report: CycleReport) -> tuple[Change, ...]:
    """The decisions of a cycle whose patches were applied."""
    if report.decisions is None or report.outcome is None:
        return ()
    applied = {
        outcome.patch.server
        for outcome in report.outcome.patches
        if outcome.status is PatchStatus.APPLIED
    }
    return tuple(
        Change(report.time, decision)
        for decision in report.decisions.decisions
        if decision.server in applied and decision.action is not Action.KEEP
    )


def _holding(report: CycleReport) -> tuple[Change, ...]:
    decisions = () if report.decisions is None else report.decisions.decisions
    return tuple(Change(report.time, one) for one in decisions if one.action is Action.HOLD)
