from __future__ import annotations

import copy
from typing import Any

import pytest

from controlloop.rest.options import RestOptions

# Building it would end the process of the tests.
DEADLY = "os:abort"
GREEDY = "controlloop.optimizer.greedy:GreedySolver"


@pytest.mark.parametrize("full", [True, False])
def test_no_request_runs_code_that_the_server_was_not_started_with(
    start: Any, system: dict[str, Any], full: bool
) -> None:
    client = start(RestOptions(full=full))
    by_solver, by_model = copy.deepcopy(system), copy.deepcopy(system)
    by_solver["system"]["optimizerData"] = {"optimizer": {"solver": DEADLY}}
    by_model["system"]["modelData"]["models"][0]["queueModel"] = DEADLY
    for body in (by_solver, by_model):
        refusal = client.refused("POST", "/optimizeOne", 400, body)
        assert "--plugin" in refusal["errors"][0]["rule"]
        assert refusal["errors"][0]["value"] == f'"{DEADLY}"'
    assert client.get("/getServers") == {"servers": []}


def test_a_plugin_that_the_server_was_started_with_is_used(
    start: Any, system: dict[str, Any]
) -> None:
    client = start(RestOptions(plugins=frozenset({GREEDY})))
    body = copy.deepcopy(system)
    body["system"]["optimizerData"] = {"optimizer": {"solver": GREEDY}}
    assert client.post("/optimizeOne", body)["allocations"]
