from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from controlloop.api.decision import Action, Decision, Decisions
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Workload,
    WorkloadRef,
)
from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation


def test_what_is_no_number_is_null_and_the_document_is_json() -> None:
    now, wanted = Allocation("A100", 1, 8, 3.0), Allocation("A100", 2, 8, 6.0, math.nan, math.inf)
    decision = Decision("chat", Action.SCALE_UP, now, wanted, "because")
    solution = Solution({"chat": wanted}, (), SolveStatus.FEASIBLE, "greedy", math.inf)
    report = CycleReport(12.0, (), decisions=Decisions((decision,), solution))
    document = json.loads(json.dumps(report_document(report), allow_nan=False))
    desired = document["servers"][0]["desired"]
    assert (desired["cost"], desired["itlAverage"], desired["ttftAverage"]) == (6.0, None, None)
    assert document["solution"]["objective"] is None


def test_siblings_of_a_server_are_told_with_what_they_run_and_only_where_there_are_any() -> None:
    workload = Workload(WorkloadRef("llm", "chat"), "chat", "m", "Premium", "A100", 8, 2)
    ref = WorkloadRef("llm", "chat-h100")
    sibling = replace(workload, ref=ref, accelerator="H100", replicas=3, ready_replicas=1)
    current = Allocation("A100", 2, 8)
    solution = Solution({"chat": current}, (), SolveStatus.OPTIMAL, "milp", 0.0)
    decided = Decisions((Decision("chat", Action.KEEP, current, current, "fits"),), solution)

    def server_of(*siblings: Workload) -> dict[str, Any]:
        seen = Observation(0.0, (ServerObservation(workload, siblings=siblings),))
        report = CycleReport(12.0, (), observation=seen, decisions=decided)
        found: dict[str, Any] = report_document(report)["servers"][0]
        return found

    assert "siblings" not in server_of()
    assert server_of(sibling)["siblings"] == [
        {
            "workload": "Deployment llm/chat-h100",
            "accelerator": "H100",
            "replicas": 3,
            "readyReplicas": 1,
        }
    ]
