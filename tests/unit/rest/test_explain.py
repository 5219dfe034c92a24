"""Explanations beside the answers of /optimize and /optimizeOne."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlloop.api.convert import system_from_spec
from controlloop.api.explanation_document import explanation_document
from controlloop.api.files import read_folder
from controlloop.optimizer.explain import explain


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "config" / "sample"


@pytest.fixture(scope="module")
def sample(folder: Path) -> Any:
    return read_folder(folder).document()


def test_an_answer_explains_nothing_unless_asked(stateless: Any, sample: Any) -> None:
    for query in ("", "?explain=false", "?explain=", "?prices=true"):
        assert "explanations" not in stateless.post(f"/optimizeOne{query}", sample)


def test_named_servers_are_explained_as_the_command_does(
    stateless: Any, sample: Any, folder: Path
) -> None:
    answer = stateless.post("/optimizeOne?explain=chat-8b&explain=code-32b", sample)
    assert set(answer["explanations"]) == {"chat-8b", "code-32b"}
    system = system_from_spec(read_folder(folder))
    expected = explanation_document(explain(system, "chat-8b", shadow_prices=False))
    assert answer["explanations"]["chat-8b"] == json.loads(json.dumps(expected))
    plain = stateless.post("/optimizeOne", sample)
    assert {key: answer[key] for key in plain} == plain


def test_true_explains_every_server(stateless: Any, sample: Any) -> None:
    answer = stateless.post("/optimizeOne?explain=true", sample)
    assert set(answer["explanations"]) == set(answer["allocations"])
    assert all(each["shadowPrices"] is None for each in answer["explanations"].values())


def test_shadow_prices_come_on_request(stateless: Any, sample: Any) -> None:
    answer = stateless.post("/optimizeOne?explain=chat-8b&prices=true", sample)
    prices = answer["explanations"]["chat-8b"]["shadowPrices"]
    assert [each["type"] for each in prices] == ["L4", "L40S", "A100", "H100"]


def test_what_is_held_is_explained_too_and_the_explanation_is_not_kept(
    full: Any, sample: Any
) -> None:
    full.post("/optimizeOne", sample)
    answer = full.post("/optimize?explain=chat-8b", {"unlimited": True})
    assert answer["explanations"]["chat-8b"]["solver"] == "unlimited"
    assert "explanations" not in full.get("/getServer/chat-8b")
    assert full.get("/getServer/chat-8b")["desiredAlloc"] == answer["allocations"]["chat-8b"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("explain=chat-8c", 404, 'there is no server "chat-8c"'),
        ("explain=true&explain=a%2Fb", 404, 'there is no server "a/b"'),
        ("explain=true&prices=maybe", 400, "prices: must be true or false"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_and_changes_nothing(
    full: Any, sample: Any, query: str, status: int, message: str
) -> None:
    before = full.get("/getServers")
    answer = full.refused("POST", f"/optimizeOne?{query}", status, sample)
    assert message in answer["message"]
    assert full.get("/getServers") == before


def test_the_openapi_page_tells_the_query(stateless: Any) -> None:
    document = stateless.get("/openapi.json")
    for command in ("/optimize", "/optimizeOne"):
        parameters = document["paths"][command]["post"]["parameters"]
        assert [each["name"] for each in parameters] == ["explain", "prices", "solver"]
    assert not any(
        each["in"] == "query" for each in document["paths"]["/getServers"]["get"]["parameters"]
    )
