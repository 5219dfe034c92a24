"""What a cycle did, told to people and machines: log lines, metrics, JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container

import structlog

from controlloop.api.decision import Action, Decision, PatchStatus
from controlloop.api.observation import Observation
from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.daemon.forecast_metrics import count_forecast
from controlloop.daemon.shadow_metrics import count_shadow
from controlloop.daemon.tuner_metrics import count_estimates
from controlloop.telemetry import Metrics


class Recorder:
    """Records each report.

    Args:
        metrics: the daemon's metrics.
        write_line: takes a report's JSON line, None where nobody asked for one.

    """

    def __init__(self, metrics: Metrics, write_line: Callable[[str], None] | None = None) -> None:
        self._metrics = metrics
        self._write_line = write_line
        self._log = structlog.get_logger("controlloop")

    def record(self, report: CycleReport, trigger: str) -> None:
        """Log, count and write one report."""
        self._count(report, trigger)
        self._show(report, trigger)
        if self._write_line is None:
            return
        try:
            self._write_line(json.dumps(report_document(report), separators=(",", ":")))
        except OSError as error:
            # What is done is done: a report that cannot be written fails no cycle.
            self._log.error("report-not-written", error=str(error))

    def _count(self, report: CycleReport, trigger: str) -> None:
        metrics = self._metrics
        metrics.cycles.labels("done" if report.succeeded else "failed", trigger).inc()
        for each in report.stages:
            metrics.stage_seconds.labels(str(each.stage)).observe(each.seconds)
        if report.failure is not None:
            metrics.failures.labels(str(report.failure.stage), report.failure.error).inc()
        else:
            metrics.last_cycle.set(report.time)
        if report.observation is not None:
            self._count_observation(report.observation)
        if report.capacity is not None:
            metrics.capacity.clear()
            for kind, cards in report.capacity.items():
                metrics.capacity.labels(kind).set(cards)
        if report.estimate is not None:
            count_estimates(metrics, report.estimate)
        if report.forecast is not None:
            count_forecast(metrics, report.forecast)
        if report.shadow is not None:
            count_shadow(metrics, report.shadow)
        if report.decisions is not None:
            known = report.forecast.loads if report.forecast else ()
            self._count_decisions(report.decisions.decisions, known)
        for outcome in report.outcome.patches if report.outcome else ():
            metrics.patches.labels(str(outcome.status), outcome.error).inc()
            change = outcome.patch.change
            if change is not None and outcome.status is PatchStatus.APPLIED:
                metrics.switch_steps.labels(str(change.step)).inc()

    def _count_observation(self, observation: Observation) -> None:
        metrics = self._metrics
        metrics.metrics_problem.set(observation.metrics_problem is not None)
        metrics.interventions.clear()
        for seen in observation.servers:
            if seen.intervention is not None:
                found = seen.intervention
                metrics.interventions.labels(seen.name, found.manager, str(found.kind)).set(1)

    def _count_decisions(self, decisions: tuple[Decision, ...], known: Container[str]) -> None:
        metrics = self._metrics
        # Servers and holds that are gone must not keep their last value.
        per_server = (metrics.replicas, metrics.load_rps, metrics.cost, metrics.predicted_ms)
        for gauge in (*per_server, metrics.holds):
            gauge.clear()
        for decision in decisions:
            name = decision.server
            metrics.decisions.labels(str(decision.action)).inc()
            for which, allocation in (("current", decision.current), ("desired", decision.desired)):
                metrics.replicas.labels(name, which).set(allocation.replicas)
                metrics.cost.labels(name, which).set(allocation.cost_per_hour)
            if name in known:
                # A load that is not known has no value: it is not zero.
                metrics.load_rps.labels(name).set(decision.desired.load.rate_rps)
            if decision.action is not Action.HOLD:
                metrics.predicted_ms.labels(name, "itl").set(decision.desired.itl_ms)
                metrics.predicted_ms.labels(name, "ttft").set(decision.desired.ttft_ms)
        holds = Counter(
            (str(hold.reason), str(hold.forbids)) for each in decisions for hold in each.holds
        )
        for (reason, forbids), count in holds.items():
            metrics.holds.labels(reason, forbids).set(count)

    def _show(self, report: CycleReport, trigger: str) -> None:
        decided = report.decisions.decisions if report.decisions else ()
        solution = report.decisions.solution if report.decisions else None
        if solution is not None and solution.asked not in ("", solution.solver):
            self._log.warning(
                "another-solver",
                asked=solution.asked,
                used=solution.solver,
                reason=solution.message,
            )
        for decision in decided:
            self._log.info(
                "decision",
                server=decision.server,
                action=str(decision.action),
                replicas=decision.current.replicas,
                desired=decision.desired.replicas,
                accelerator=decision.desired.accelerator,
                reason=decision.reason,
            )
        for refusal in report.plan.refusals if report.plan else ():
            self._log.warning("refused", server=refusal.server, reason=refusal.reason)
        for outcome in report.outcome.patches if report.outcome else ():
            failed = outcome.status in (PatchStatus.FAILED, PatchStatus.NOT_SENT)
            say = self._log.warning if failed else self._log.info
            say(
                "patch",
                server=outcome.patch.server,
                workload=str(outcome.patch.ref),
                status=str(outcome.status),
                error=outcome.error,
                replicas=outcome.patch.replicas,
                detail=outcome.detail,
            )
        seconds = round(sum(each.seconds for each in report.stages), 3)
        if report.failure is not None:
            failure = report.failure
            self._log.error(
                "cycle-failed",
                trigger=trigger,
                stage=str(failure.stage),
                error=failure.error,
                reason=failure.message,
                seconds=seconds,
            )
            return
        patches = report.outcome.patches if report.outcome else ()
        self._log.info(
            "cycle", trigger=trigger, servers=len(decided), patches=len(patches), seconds=seconds
        )
