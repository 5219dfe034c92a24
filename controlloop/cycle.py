"""One control cycle, top to bottom: each stage takes and gives frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from controlloop.api.assembly import assemble
from controlloop.api.decision import Action, Decisions, Forecast, Problem, Situation
from controlloop.api.explanation import Explanation
from controlloop.api.report import CycleReport, Failure, Stage, StageTime
from controlloop.clock import Clock, Deadline
from controlloop.errors import ControlLoopError
from controlloop.protocols import (
    Actuator,
    Estimator,
    Explainer,
    Forecaster,
    Optimizer,
    Policy,
    Scorer,
    Sensor,
    Source,
)

T = TypeVar("T")
_NO_CHANGE: Final = (Action.KEEP, Action.HOLD)
_EXPLAINED_AT_ONCE: Final = 200


class StoppedError(ControlLoopError):
    """The process was asked to stop: the stages not begun are not done."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The exchangeable parts of a cycle, in the order in which they work.

    `explainer` None explains nothing, `scorer` None compares nothing.
    """

    source: Source
    sensor: Sensor
    estimator: Estimator
    forecaster: Forecaster
    policy: Policy
    optimizer: Optimizer
    actuator: Actuator
    explainer: Explainer | None = None
    scorer: Scorer | None = None


class Cycle:
    """Runs cycles over one set of parts.

    Args:
        parts: the plug-ins.
        clock: measures the stages; the cycle's own time is an argument of `run_once`.
        drain_time_s: the time in which waiting requests are to be served; 0 ignores them.

    """

    def __init__(self, parts: Parts, clock: Clock, drain_time_s: float = 0.0) -> None:
        self._parts = parts
        self._clock = clock
        self._drain_time_s = drain_time_s

    def run_once(
        self,
        now: float,
        deadline: Deadline,
        since: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> CycleReport:
        """Observe, decide and act once. Never raises: a failed stage ends the cycle.

        Args:
            now: the cycle's time, seconds since the epoch.
            deadline: what is left for the calls of this cycle.
            since: since when this process has been in control without a break.
            stop: asked before each stage; True ends the cycle there, nothing left half done.

        """
        run = _Run(self._clock, stop, CycleReport(now, ()))
        try:
            self._stages(run, now, since, deadline)
        except ControlLoopError as error:
            run.fail(error)
        except Exception as error:  # noqa: BLE001 - a plug-in's defect must leave the fleet as it is
            run.fail(error)
            structlog.get_logger(__name__).exception("stage-defect", stage=str(run.stage))
        return replace(run.report, stages=tuple(run.times))

    def _stages(self, run: _Run, now: float, since: float, deadline: Deadline) -> None:
        part = self._parts
        catalog = run.stage_of(Stage.DATA, part.source.load)
        seen = run.stage_of(Stage.OBSERVE, lambda: part.sensor.observe(now, deadline))
        run.report = replace(run.report, observation=seen)
        estimate = run.stage_of(Stage.ESTIMATE, lambda: part.estimator.estimate(now, seen, catalog))
        run.report = replace(run.report, estimate=estimate)
        forecast = run.stage_of(Stage.FORECAST, lambda: part.forecaster.forecast(now, seen))
        run.report = replace(run.report, forecast=forecast)
        situation = assemble(now, since, catalog, seen, estimate, forecast, self._drain_time_s)
        run.report = replace(run.report, capacity=situation.system.capacity)
        problem = run.stage_of(Stage.SHAPE, lambda: part.policy.shape(situation))
        solution = run.stage_of(Stage.OPTIMIZE, lambda: part.optimizer.solve(problem))
        decided = run.stage_of(Stage.STEADY, lambda: part.policy.steady(problem, solution))
        notes = estimate.notes + forecast.notes + decided.notes
        run.report = replace(run.report, decisions=decided, notes=notes)
        plan = run.stage_of(Stage.PLAN, lambda: part.actuator.plan(decided, seen))
        run.report = replace(run.report, plan=plan)
        outcome = run.stage_of(Stage.APPLY, lambda: part.actuator.apply(plan, deadline))
        run.report = replace(run.report, outcome=outcome, maintenance=outcome.maintenance)
        if part.explainer is not None and not run.stop():
            explainer = part.explainer
            run.timed(Stage.EXPLAIN, lambda: _explain(run, explainer, problem, decided, deadline))
        if part.scorer is not None and not run.stop():
            scorer = part.scorer
            run.timed(Stage.SHADOW, lambda: _score(run, scorer, situation, forecast, decided))


def _explain(
    run: _Run, explainer: Explainer, problem: Problem, decided: Decisions, deadline: Deadline
) -> None:
    """Explain what changes, while there is time; whatever goes wrong here undoes nothing."""
    changes = [each.server for each in decided.decisions if each.action not in _NO_CHANGE]
    found: dict[str, Explanation] = {}
    note = ""
    for start in range(0, len(changes), _EXPLAINED_AT_ONCE):
        if deadline.remaining_s() <= 0:
            note = f"{len(changes) - start} changes are not explained: the cycle's time was up"
            break
        some = changes[start : start + _EXPLAINED_AT_ONCE]
        try:
            found |= explainer.explain(problem, decided.solution, some)
        except Exception as error:  # noqa: BLE001 - what was done is done, and reported
            note = f"{len(changes) - start} changes are not explained: {error!r}"
            structlog.get_logger(__name__).exception("explain-defect")
            break
    notes = (*run.report.notes, note) if note else run.report.notes
    run.report = replace(run.report, explanations=found, notes=notes)


def _score(
    run: _Run, scorer: Scorer, situation: Situation, forecast: Forecast, decided: Decisions
) -> None:
    """Compare with what happened; whatever goes wrong here undoes nothing."""
    try:
        run.report = replace(run.report, shadow=scorer.score(situation, forecast, decided))
    except Exception as error:  # noqa: BLE001 - what was done is done, and reported
        note = f"nothing is compared with what happened: {error!r}"
        structlog.get_logger(__name__).exception("shadow-defect")
        run.report = replace(run.report, notes=(*run.report.notes, note))


@dataclass(slots=True)
class _Run:
    """How far one cycle has come."""

    clock: Clock
    stop: Callable[[], bool]
    report: CycleReport
    stage: Stage = Stage.DATA
    times: list[StageTime] = field(default_factory=list)

    def stage_of(self, stage: Stage, work: Callable[[], T]) -> T:
        """Do one stage and note how long it took, also when it fails."""
        self.stage = stage
        if self.stop():
            raise StoppedError(f"asked to stop before the {stage} stage; nothing more was done")
        return self.timed(stage, work)

    def timed(self, stage: Stage, work: Callable[[], T]) -> T:
        """The same, whether asked to stop or not."""
        started = self.clock.monotonic()
        try:
            return work()
        finally:
            self.times.append(StageTime(stage, self.clock.monotonic() - started))

    def fail(self, error: Exception) -> None:
        self.report = replace(
            self.report, failure=Failure(self.stage, type(error).__name__, str(error))
        )
