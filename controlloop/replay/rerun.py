"""Runs recorded cycles again through the production cycle, and compares what is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlloop.api.decision import Decisions, Outcome, Plan
from controlloop.api.observation import Observation
from controlloop.api.report import CycleReport
from controlloop.api.system import System
from controlloop.clock import Clock, Deadline, ManualClock
from controlloop.cycle import Cycle
from controlloop.protocols import Actuator, Sensor, Source
from controlloop.replay.document import Decided, Recorded, decided_of

BuildCycle = Callable[[Source, Sensor, Actuator, Clock], Cycle]

BUDGET_S: Final = 3600.0
"""A replay is in no hurry: what was cut short then has time now."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One server in one cycle, decided otherwise; None where one of both decided nothing."""

    now: float
    server: str
    recorded: Decided | None
    replayed: Decided | None


@dataclass(slots=True)
class ServerTally:
    """One server over the whole recording; each pair is (recorded, replayed).

    `replica_cycles` and `cost_cycles` add up what was decided, cycle by cycle.
    """

    cycles: int = 0
    differences: int = 0
    changes: list[int] = field(default_factory=lambda: [0, 0])
    replica_cycles: list[int] = field(default_factory=lambda: [0, 0])
    cost_cycles: list[float] = field(default_factory=lambda: [0.0, 0.0])


@dataclass(slots=True)
class Replayed:
    """What a replay found.

    Attributes:
        cycles: recorded cycles that were compared.
        skipped: those that came to no decision, by the stage in which they had failed.
        failures: what failed in the replay and had not failed then: time, stage, message.
        differences: decisions that differ.
        servers: each server's tally.

    """

    cycles: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str, str]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    servers: dict[str, ServerTally] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether every decision is the recorded one."""
        return not self.differences and not self.failures


def rerun(
    cycles: Iterable[Recorded],
    build: BuildCycle,
    watch: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Every cycle again, each on what was observed then.

    A decision that differs changes nothing of what the next cycle observes: what would have come
    of it is a question for a simulator.

    Args:
        cycles: in order.
        build: the production cycle around a source, a sensor and an actuator.
        watch: told how many cycles are done.

    """
    tape, clock, result = _Tape(), ManualClock(), Replayed()
    cycle = build(tape, tape, tape, clock)
    for done, recorded in enumerate(cycles, start=1):
        if recorded.system is None or recorded.observation is None:
            result.skipped[recorded.failed or "unknown"] += 1
        else:
            tape.system, tape.observation = recorded.system, recorded.observation
            report = cycle.run_once(recorded.now, Deadline(clock, BUDGET_S), recorded.since)
            if recorded.decided is None:
                result.skipped[recorded.failed] += 1
            else:
                _compare(result, recorded, report)
        watch(done)
    return result


def _compare(result: Replayed, recorded: Recorded, report: CycleReport) -> None:
    result.cycles += 1
    if report.failure is not None and str(report.failure.stage) != recorded.failed:
        failure = report.failure
        result.failures.append((recorded.now, str(failure.stage), failure.message))
    before, after = _by_server(recorded.decided), _by_server(decided_of(report))
    for server in sorted({*before, *after}):
        one, other = before.get(server), after.get(server)
        tally = result.servers.setdefault(server, ServerTally())
        tally.cycles += 1
        for at, decided in enumerate((one, other)):
            if decided is not None:
                tally.changes[at] += decided.replicas != decided.before
                tally.replica_cycles[at] += decided.replicas
                tally.cost_cycles[at] += decided.cost_per_hour
        if one is None or other is None or one.outcome != other.outcome:
            tally.differences += 1
            result.differences.append(Difference(recorded.now, server, one, other))


def _by_server(decided: tuple[Decided, ...] | None) -> Mapping[str, Decided]:
    return {each.server: each for each in decided or ()}


class _Tape:
    """The recorded world: source and sensor give what was, the actuator does nothing."""

    def __init__(self) -> None:
        self.system = System()
        self.observation = Observation(0.0)

    @property
    def problem(self) -> str | None:
        """None: what was read then is read now."""
        return None

    def load(self) -> System:
        """The system of this cycle."""
        return self.system

    def observe(self, now: float, deadline: Deadline) -> Observation:  # noqa: ARG002 - the protocol's arguments
        """The observation of this cycle."""
        return self.observation

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:  # noqa: ARG002
        """Nothing: decisions are compared."""
        return Plan()

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:  # noqa: ARG002
        """Nothing."""
        return Outcome()
