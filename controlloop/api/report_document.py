"""A CycleReport as a JSON document, one line a cycle: what was seen, decided and done."""

from __future__ import annotations

from typing import Any

from controlloop.api.allocation_document import allocation_document, number
from controlloop.api.decision import Decision, Forecast, Outcome
from controlloop.api.estimate_document import estimate_document
from controlloop.api.explanation import Explanation
from controlloop.api.explanation_document import explanation_document
from controlloop.api.holds import Hold
from controlloop.api.observation import ServerObservation, Signals, Workload
from controlloop.api.prediction_document import prediction_document, set_aside_document
from controlloop.api.readings import Missing, Present, Reading
from controlloop.api.report import CycleReport
from controlloop.api.shadow_document import shadow_document
from controlloop.units import rpm_from_rps


def report_document(report: CycleReport) -> dict[str, Any]:
    """The report in JSON's values; rates in requests/minute, times in ms, ages in s."""
    seen = report.observation
    observed = {server.name: server for server in seen.servers} if seen else {}
    decided = report.decisions.decisions if report.decisions else ()
    solution = report.decisions.solution if report.decisions else None
    return {
        "time": report.time,
        "succeeded": report.succeeded,
        "failure": None
        if report.failure is None
        else {
            "stage": str(report.failure.stage),
            "error": report.failure.error,
            "message": report.failure.message,
        },
        "stageSeconds": {str(each.stage): round(each.seconds, 6) for each in report.stages},
        "maintenance": report.maintenance,
        "metricsProblem": seen.metrics_problem if seen else None,
        "capacity": None if report.capacity is None else dict(report.capacity),
        "notes": [*(seen.notes if seen else ()), *report.notes],
        "servers": [
            _server(
                decision, observed.get(decision.server), report.explanations.get(decision.server)
            )
            for decision in decided
        ]
        or [{"server": name, "signals": _signals(each.signals)} for name, each in observed.items()],
        "estimates": [estimate_document(pair) for pair in report.estimate.pairs]
        if report.estimate
        else [],
        "forecast": None if report.forecast is None else _forecast(report.forecast),
        "solution": None
        if solution is None
        else {
            "solver": solution.solver,
            "asked": solution.asked,
            "status": str(solution.status),
            "objective": number(solution.objective),
            "bound": number(solution.bound),
            "gap": number(solution.gap),
            "message": solution.message,
        },
        "refusals": [
            {"server": each.server, "reason": each.reason} for each in report.plan.refusals
        ]
        if report.plan
        else [],
        "patches": _patches(report.outcome) if report.outcome else [],
        **({} if report.shadow is None else {"shadow": shadow_document(report.shadow)}),
    }


def _server(
    decision: Decision, seen: ServerObservation | None, why: Explanation | None
) -> dict[str, Any]:
    return {
        "server": decision.server,
        "workload": str(seen.workload.ref) if seen else None,
        "model": seen.workload.model if seen else None,
        "readyReplicas": seen.workload.ready_replicas if seen else None,
        "action": str(decision.action),
        "reason": decision.reason,
        "current": allocation_document(decision.current),
        "desired": allocation_document(decision.desired),
        "holds": [_hold(hold) for hold in decision.holds],
        "signals": _signals(seen.signals) if seen else None,
        **(
            {"siblings": [_sibling(one) for one in seen.siblings]} if seen and seen.siblings else {}
        ),
        **({} if why is None else {"explanation": explanation_document(why)}),
    }


def _sibling(workload: Workload) -> dict[str, Any]:
    return {
        "workload": str(workload.ref),
        "accelerator": workload.accelerator,
        "replicas": workload.replicas,
        "readyReplicas": workload.ready_replicas,
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return {
        "servers": {name: prediction_document(it) for name, it in forecast.predictions.items()},
        "setAside": [set_aside_document(one) for one in forecast.set_aside],
    }


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "reason": str(hold.reason),
        "forbids": str(hold.forbids),
        "detail": hold.detail,
        **({} if hold.limit is None else {"limit": hold.limit}),
    }


def _signals(signals: Signals) -> dict[str, Any]:
    return {
        "arrivalRate": _reading(signals.arrival_rate_rps, rpm_from_rps(1.0)),
        "completionRate": _reading(signals.completion_rate_rps, rpm_from_rps(1.0)),
        "avgInTokens": _reading(signals.input_tokens),
        "avgOutTokens": _reading(signals.output_tokens),
        "ttftAverage": _reading(signals.ttft_ms),
        "itlAverage": _reading(signals.itl_ms),
        "running": _reading(signals.running),
        "waiting": _reading(signals.waiting),
        "reportedPods": signals.reported_pods,
        "expectedPods": signals.expected_pods,
    }


def _reading(reading: Reading, scale: float = 1.0) -> dict[str, Any]:
    if isinstance(reading, Missing):
        return {"state": "missing", "reason": reading.reason}
    state = "present" if isinstance(reading, Present) else "stale"
    return {"state": state, "value": reading.value * scale, "age": reading.age_s}


def _patches(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "server": each.patch.server,
            "workload": str(each.patch.ref),
            "replicasBefore": each.patch.replicas_before,
            "replicas": each.patch.replicas,
            "labels": dict(each.patch.labels),
            "reason": each.patch.reason,
            "status": str(each.status),
            "error": each.error,
            "detail": each.detail,
        }
        for each in outcome.patches
    ]
