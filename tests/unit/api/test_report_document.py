from __future__ import annotations

import json
import math

from controlloop.api.decision import Action, Decision, Decisions
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
