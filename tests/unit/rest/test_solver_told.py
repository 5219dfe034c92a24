"""How an answer was found: told where there is something to know, and on request."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlloop.optimizer.milp.backends import PulpBackend
from controlloop.optimizer.milp.solver import MilpSolver
from controlloop.rest.options import RestOptions

RAISING = "raising_solver:Raising"


def asking(system: dict[str, Any], **flags: Any) -> dict[str, Any]:
    body = copy.deepcopy(system)
    body["system"]["optimizerData"] = {"optimizer": flags}
    return body


def test_an_answer_that_was_found_as_asked_is_the_documented_one(
    start: Any, system: dict[str, Any]
) -> None:
    client = start(RestOptions())
    for flags in ({}, {"milpSolver": True}, {"unlimited": True}):
        plain = client.post("/optimizeOne", asking(system, **flags))
        assert "solver" not in plain
        told = client.post("/optimizeOne?solver=true", asking(system, **flags))
        assert told.pop("solver")["message"] == ""
        assert told == plain
    refusal = client.refused("POST", "/optimizeOne?solver=perhaps", 400, asking(system))
    assert refusal["errors"][0]["path"] == "solver"


def test_a_stand_in_is_told_unasked(
    start: Any, system: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PulpBackend, "available", lambda _: False)
    answer = start(RestOptions()).post("/optimizeOne", asking(system, milpSolver=True))
    assert (answer["solver"]["asked"], answer["solver"]["used"]) == ("milp", "greedy")
    assert answer["solver"]["message"].startswith("HiGHS is not installed")


def test_a_plugin_that_raises_is_no_failure_of_the_server(
    start: Any, system: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising_solver.py").write_text(
        "class Raising:\n"
        "    name = 'raising'\n"
        "    def solve(self, candidates, capacity, options):\n"
        "        raise RuntimeError('out of luck')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    client = start(RestOptions(plugins=frozenset({RAISING})))
    query = "/optimizeOne?explain=true&prices=true"
    answer = client.post(query, asking(system, solver=RAISING))
    assert answer["allocations"]
    assert answer["solver"]["message"].startswith("raising failed (RuntimeError: out of luck)")


def test_what_requests_leave_open_the_server_was_started_with(
    start: Any, system: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float | None, float | None]] = []
    solve = MilpSolver.solve

    def noting(self: Any, candidates: Any, capacity: Any, options: Any) -> Any:
        asked.append((options.time_limit_s, options.gap))
        return solve(self, candidates, capacity, options)

    monkeypatch.setattr(MilpSolver, "solve", noting)
    client = start(RestOptions(time_limit_s=3.0, gap=0.01))
    client.post("/optimizeOne", asking(system, milpSolver=True))
    client.post("/optimizeOne", asking(system, milpSolver=True, timeLimit=2, gap=0))
    assert asked == [(3.0, 0.01), (2.0, 0.0)]


def test_the_queue_model_of_the_server_is_that_of_data_that_names_none(
    start: Any, system: dict[str, Any]
) -> None:
    (usual, other) = (
        start(RestOptions(queue_model=name)).post("/optimizeOne?explain=true", system)
        for name in ("state-dependent", "mm1k")
    )
    assert usual["allocations"] != other["allocations"]
    assert usual["explanations"] != other["explanations"]
