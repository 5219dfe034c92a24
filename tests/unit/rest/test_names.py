from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.rest.names import one_name, two_names

NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def pair(model: str, acc: str, at_tokens: int = 1) -> dict[str, Any]:
    return {
        "name": model,
        "acc": acc,
        "maxBatchSize": 1,
        "atTokens": at_tokens,
        "decodeParms": {"alpha": 1, "beta": 1},
        "prefillParms": {"gamma": 1, "delta": 1},
    }


@given(NAME, NAME)
def test_every_name_can_be_written_in_a_path(one: str, two: str) -> None:
    assert one_name(quote(one, safe="")) == one
    assert two_names(f"{quote(one, safe='')}/{quote(two, safe='')}") == ((one, two),)


@given(NAME, NAME)
def test_of_two_names_with_slashes_as_they_are_the_right_reading_is_one(one: str, two: str) -> None:
    assert (one, two) in two_names(f"{quote(one)}/{quote(two)}")
    assert (one, two) in two_names(quote(f"{one}/{two}", safe=""))


@pytest.mark.parametrize(
    "path",
    ["meta-llama/Llama-3.1-8B/4xA100/80GB", "meta-llama%2FLlama-3.1-8B/4xA100%2F80GB"],
)
def test_names_with_a_slash_work_in_paths(full: Any, path: str) -> None:
    model, acc = "meta-llama/Llama-3.1-8B", "4xA100/80GB"
    full.post("/setModels", {"models": [pair(model, acc), pair("meta-llama", "other")]})
    assert full.get(f"/getModelAcceleratorPerf/{path}")["acc"] == acc
    for written in (model, model.replace("/", "%2F"), model.replace("/", "%2f")):
        assert len(full.get(f"/getModel/{written}")["models"]) == 1
    assert full.get(f"/removeModelAcceleratorPerf/{path}")["acc"] == acc
    assert full.get(f"/getModel/{model}") == {"models": []}


def test_a_path_with_two_meanings_is_refused_until_it_is_written_out(full: Any) -> None:
    models = [pair("a", "b/c", at_tokens=1), pair("a/b", "c", at_tokens=2)]
    full.post("/setModels", {"models": models})
    message = full.refused("GET", "/getModelAcceleratorPerf/a/b/c", 400)["message"]
    assert "a/b%2Fc or a%2Fb/c" in message
    assert full.get("/getModelAcceleratorPerf/a/b%2Fc")["atTokens"] == 1
    assert full.get("/getModelAcceleratorPerf/a%2Fb/c")["atTokens"] == 2


def test_the_priority_is_what_follows_the_last_slash(full: Any) -> None:
    assert full.get("/addServiceClass/team/a/7")["name"] == "team/a"
    assert full.get("/getServiceClass/team%2Fa")["priority"] == 7


@pytest.mark.parametrize(
    ("priority", "kept"), [("0", 100), ("101", 100), ("-3", 100), ("100", 100), ("9" * 500, 100)]
)
def test_a_priority_out_of_range_is_the_lowest(full: Any, priority: str, kept: int) -> None:
    assert full.get(f"/addServiceClass/x/{priority}")["priority"] == kept


@pytest.mark.parametrize("priority", ["high", "1.5", "%20", "1e3", "9" * 5000, "\u0661"])
def test_a_priority_that_is_no_whole_number_is_refused(full: Any, priority: str) -> None:
    errors = full.refused("GET", f"/addServiceClass/x/{quote(priority)}", 400)["errors"]
    assert errors[0]["path"] == "priority"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/getAccelerator/none", 'there is no accelerator "none"'),
        ("/removeAccelerator/none", 'there is no accelerator "none"'),
        ("/getCapacity/none", 'there is no capacity of type "none"'),
        ("/removeCapacity/none", 'there is no capacity of type "none"'),
        ("/getModel/no/ne", 'there is no model "no/ne"'),
        ("/removeModel/none", 'there is no model "none"'),
        ("/getServiceClass/none", 'there is no service class "none"'),
        ("/removeServiceClass/none", 'there is no service class "none"'),
        ("/getServer/none", 'there is no server "none"'),
        ("/removeServer/none", 'there is no server "none"'),
        ("/getServiceClassModelTarget/a/b", 'there is no target of class "a" for model "b"'),
        ("/removeServiceClassModelTarget/a/b/c", 'that "a/b/c" can name'),
        ("/getModelAcceleratorPerf/a/b", 'performance data of model "a" on accelerator "b"'),
        ("/removeModelAcceleratorPerf/a/b", 'performance data of model "a" on accelerator "b"'),
    ],
)
def test_an_unknown_name_is_not_found_and_named(full: Any, path: str, words: str) -> None:
    assert words in full.refused("GET", path, 404)["message"]


def test_what_is_added_to_must_be_there(full: Any) -> None:
    words = full.refused("POST", "/addModelAcceleratorPerf", 404, pair("m", "a"))["message"]
    assert 'there is no model "m"' in words
    words = full.refused("POST", "/addServiceClassModelTargets", 404, {"name": "c"})["message"]
    assert 'there is no service class "c"' in words


def test_a_name_that_is_no_text_or_empty_is_refused(full: Any) -> None:
    assert full.refused("GET", "/addModel/%ff%fe", 400)["errors"][0]["rule"] == "must be UTF-8 text"
    assert full.refused("GET", "/addModel/", 400)["errors"][0]["path"] == "name"
    assert full.get("/getModels") == []


def test_adding_again_keeps_what_was_added_to_it(full: Any) -> None:
    full.post("/setModels", {"models": [pair("m", "a")]})
    assert len(full.get("/addModel/m")["models"]) == 1
    given = {"name": "c", "priority": 2, "modelTargets": [{"model": "m", "slo-itl": 5}]}
    full.post("/setServiceClasses", {"serviceClasses": [given]})
    again = full.get("/addServiceClass/c/9")
    assert (again["priority"], len(again["modelTargets"])) == (9, 1)
    more = {"name": "c", "modelTargets": [{"model": "m", "slo-itl": 7}, {"model": "n"}]}
    both = full.post("/addServiceClassModelTargets", more)
    assert [(each["model"], each["slo-itl"]) for each in both["modelTargets"]] == [
        ("m", 7),
        ("n", 0),
    ]
    assert both["priority"] == 9
