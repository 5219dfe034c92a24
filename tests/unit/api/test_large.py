from __future__ import annotations

import json

import pytest

from controlloop.api.entries import LONG_LIST
from controlloop.api.reading import read, read_json
from controlloop.api.specs import ModelData, ServerData, ServiceClassData
from controlloop.api.spelling import MOST_PROBLEMS
from controlloop.errors import InputError


def servers(count: int) -> list[dict[str, object]]:
    return [{"name": f"s{index}", "model": "m"} for index in range(count)]


def problems(form: type[ServerData | ServiceClassData | ModelData], document: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(form, document)
    return [str(each) for each in caught.value.problems]


def test_a_long_list_reads_as_a_short_one_does() -> None:
    whole = read(ServerData, {"SERVERS": servers(LONG_LIST + 1)})
    assert whole.servers[:2] == read(ServerData, {"servers": servers(2)}).servers
    assert len(whole.servers) == LONG_LIST + 1


def test_a_problem_in_a_long_list_is_told_at_its_place() -> None:
    entries = servers(LONG_LIST + 1)
    entries[LONG_LIST]["minNumReplicas"] = -4
    entries[7]["currentAlloc"] = {"load": {"arrivalRate": "many"}}
    entries[8]["name"] = "s0"
    found = problems(ServerData, {"servers": entries})
    assert sorted(found) == [
        f"servers[{LONG_LIST}].minNumReplicas: must be >= 0, got -4",
        'servers[7].currentAlloc.load.arrivalRate: must be a number, got "many"',
        'servers[8].name: must be unique, but servers[0] has it too, got "s0"',
    ]


@pytest.mark.parametrize("entry", ["0", "{}", '{"name":"a","model":"b"}'])
def test_of_a_large_document_of_nonsense_only_so_many_problems_are_told(entry: str) -> None:
    text = '{"servers": [' + ",".join([entry] * 20 * MOST_PROBLEMS) + "]}"
    with pytest.raises(InputError) as caught:
        read_json(ServerData, text)
    assert MOST_PROBLEMS <= len(caught.value.problems) <= MOST_PROBLEMS + 50


def test_a_list_within_a_list_counts_too() -> None:
    targets = [0] * 20 * MOST_PROBLEMS
    found = problems(ServiceClassData, {"serviceClasses": [{"name": "a", "modelTargets": targets}]})
    assert found[0] == "serviceClasses[0].modelTargets[0]: must be an object, got 0"
    assert found[-1] == "has more problems than are listed"
    assert len(found) == MOST_PROBLEMS + 1


def test_an_object_of_values_has_a_bound() -> None:
    pair = {"name": "m", "acc": "a", "maxBatchSize": 1, "atTokens": 1, "queueModel": "other"}
    parameters = {str(index): "x" for index in range(MOST_PROBLEMS + 1)}
    found = problems(ModelData, {"models": [pair | {"parameters": parameters}]})
    assert "models[0].parameters: must have at most 1000 keys" in found


def test_many_repeated_keys_take_no_time_that_grows_with_their_square() -> None:
    keys = [json.dumps(f"k{index}") for index in range(100_000)]
    text = "{" + ",".join(f"{key}:0" for key in keys * 2) + "}"
    with pytest.raises(InputError) as caught:
        read_json(ServerData, text)
    assert str(caught.value.problems[0]) == "k0: is given twice"
