from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.optimizer import optimize
from controlloop.rest.building import build_app
from controlloop.rest.commands import COMMANDS
from controlloop.rest.options import RestOptions

POSTS = [command.path for command in COMMANDS if command.body is not None]
NAMES = st.sampled_from(["a", "b", "a/b"])
EXTREMES = st.sampled_from([0, 1, 2, 3.5, 1e-300, 1e-9, 0.999, 60, 1024, 1e9, 10**9, 1e12])
COUNTS = st.sampled_from([0, 1, 2, 64, 10**6, 10**9])
WHOLE = st.sampled_from([1, 2, 64, 10**6, 10**9])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)

NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "space": b"  \n",
    "no-json": b"{",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "number": b"12",
    "no-utf8": b'{"name": "\xff\xfe"}',
    "half-character": b'{"name": "\\ud800", "servers": [{"name": "\\ud800"}]}',
    "nan": b'{"cost": NaN, "count": NaN, "name": NaN, "priority": NaN, "maxBatchSize": NaN}',
    "infinity": b'{"cost": -Infinity, "count": 1e999, "name": 1e999, "priority": 1e999}',
    "digits": b'{"count": ' + b"9" * 10_000 + b"}",
    "many-digits": b'{"count": ' + b"9" * 4000 + b"}",
    "deep-list": b"[" * 100_000,
    "deep-object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep-within": b'{"servers": ' + b"[" * 900 + b"]" * 900 + b"}",
    "wrong-types": b'{"accelerators": {}, "count": "many", "models": 1, "servers": [1, null, []],'
    b' "serviceClasses": [[]], "name": [], "type": {}, "system": [], "optimizer": 3}',
    "repeated": b'{"name": "a", "NAME": "b", "name": "c"}',
    "flags": b'{"unlimited": "yes", "milpSolver": 1, "saturationPolicy": "All", "solver": "magic"}',
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = build_app(optimize, RestOptions(full=True))
    return TestClient(app, raise_server_exceptions=False)


# All flags have a default and unknown keys are ignored: to /optimize these are the defaults.
GOOD_FLAGS = {"half-character", "nan", "infinity", "many-digits", "deep-within", "repeated"}
CASES = [
    (path, body)
    for path in POSTS
    for name, body in NONSENSE.items()
    if path != "/optimize" or name not in GOOD_FLAGS
]


@pytest.mark.parametrize(("path", "body"), CASES)
def test_nonsense_is_refused_with_its_errors_and_changes_nothing(
    client: TestClient, path: str, body: bytes
) -> None:
    before = [client.get(each).json() for each in ("/getServers", "/getCapacities", "/getModels")]
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    document = answer.json()
    assert document["message"].endswith("nothing was changed")
    assert all(set(each) == {"path", "rule", "value"} for each in document["errors"])
    after = [client.get(each).json() for each in ("/getServers", "/getCapacities", "/getModels")]
    assert after == before


def test_all_errors_of_a_body_are_told_with_path_rule_and_value(client: TestClient) -> None:
    load = {"ArrivalRate": -4}
    servers = [
        {"name": "a", "model": "m", "currentAlloc": {"load": load}},
        {"name": "a", "keepAccelerator": 1},
    ]
    answer = client.post("/setServers", json={"SERVERS": servers})
    assert answer.status_code == 400
    errors = answer.json()["errors"]
    rate = {"path": "servers[0].currentAlloc.load.arrivalRate", "rule": "must be >= 0"}
    assert rate | {"value": "-4"} in errors
    assert {each["path"] for each in errors} == {
        "servers[0].currentAlloc.load.arrivalRate",
        "servers[1].name",
        "servers[1].model",
        "servers[1].keepAccelerator",
    }


def test_keys_are_read_in_any_case_and_unknown_ones_ignored(client: TestClient) -> None:
    given = {"NAME": "x", "Type": "y", "COST": 3, "MemSize": 4, "colour": "red"}
    answer = client.post("/addAccelerator", json=given)
    assert answer.status_code == 200
    known = {"name": "x", "type": "y", "cost": 3, "memSize": 4}
    assert {key: answer.json().get(key) for key in known} == known
    assert "colour" not in answer.json()


def test_a_solver_that_does_not_exist_is_named_beside_those_that_do(client: TestClient) -> None:
    for body in ({"solver": "magic"}, {"optimizer": {"Solver": "magic"}}):
        answer = client.post("/optimize", json=body)
        assert answer.status_code == 400
        error = answer.json()["errors"][0]
        assert (error["path"], error["value"]) == ("solver", '"magic"')
        assert "greedy" in error["rule"]


@settings(max_examples=300)
@given(st.sampled_from(POSTS), VALUES)
def test_no_json_makes_the_server_fail(path: str, document: Any) -> None:
    answer = CLIENT.post(path, content=json.dumps(document).encode())
    assert answer.status_code in {200, 400, 404}


@settings(max_examples=300)
@given(st.sampled_from(POSTS), st.binary(max_size=30))
def test_no_bytes_make_the_server_fail(path: str, body: bytes) -> None:
    assert CLIENT.post(path, content=body).status_code in {200, 400, 404}


def entry(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


LOADS = entry(arrivalRate=EXTREMES, avgInTokens=EXTREMES, avgOutTokens=EXTREMES)
ALLOCATIONS = entry(accelerator=NAMES, numReplicas=COUNTS, cost=EXTREMES, load=LOADS)
TARGETS = st.fixed_dictionaries(
    {"model": NAMES},
    optional={"slo-itl": EXTREMES, "slo-ttft": EXTREMES, "slo-tps": EXTREMES},
)
PERF = st.fixed_dictionaries(
    {
        "name": NAMES,
        "acc": NAMES,
        "maxBatchSize": WHOLE,
        "atTokens": WHOLE,
        "decodeParms": st.fixed_dictionaries({"alpha": EXTREMES, "beta": EXTREMES}),
        "prefillParms": st.fixed_dictionaries({"gamma": EXTREMES, "delta": EXTREMES}),
    },
    optional={"accCount": COUNTS},
)
SERVERS = st.fixed_dictionaries(
    {"name": NAMES, "model": NAMES, "currentAlloc": ALLOCATIONS},
    optional={
        "class": NAMES,
        "keepAccelerator": st.booleans(),
        "minNumReplicas": COUNTS,
        "maxBatchSize": COUNTS,
    },
)


def listed(
    key: str, entries: st.SearchStrategy[dict[str, Any]], *unique: str
) -> st.SearchStrategy[dict[str, Any]]:
    """A part of a system: a list of at most three entries that differ in `unique`."""
    several = st.lists(entries, max_size=3, unique_by=lambda each: tuple(each[k] for k in unique))
    return st.fixed_dictionaries({key: several})


ACCELERATORS = st.fixed_dictionaries(
    {"name": NAMES, "type": NAMES, "cost": EXTREMES}, optional={"multiplicity": WHOLE}
)
CLASSES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": NAMES,
        "modelTargets": st.lists(TARGETS, max_size=2, unique_by=lambda each: each["model"]),
    }
)
POLICIES = ["None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin"]
FLAGS = entry(
    unlimited=st.booleans(),
    delayedBestEffort=st.booleans(),
    saturationPolicy=st.sampled_from(POLICIES),
    milpSolver=st.booleans(),
    heterogeneous=st.booleans(),
    useCplex=st.booleans(),
    timeLimit=st.sampled_from([1e-9, 0.01, 0.1]),
    gap=st.sampled_from([0, 1e-9, 0.5, 1]),
)
SYSTEMS = st.fixed_dictionaries(
    {
        "acceleratorData": listed("accelerators", ACCELERATORS, "name"),
        "capacityData": st.just({"count": [{"type": "a", "count": 10**9}]}),
        "modelData": listed("models", PERF, "name", "acc"),
        "serviceClassData": listed("serviceClasses", CLASSES, "name"),
        "serverData": listed("servers", SERVERS, "name"),
        "optimizerData": st.fixed_dictionaries({"optimizer": FLAGS}),
    }
)


@settings(max_examples=300)
@given(SYSTEMS)
def test_no_system_makes_the_server_fail(system: dict[str, Any]) -> None:
    answer = CLIENT.post("/optimizeOne", json={"system": system})
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 200:
        document = answer.json()
        served = document["allocations"].keys() | document.get("unserved", {}).keys()
        assert served == {each["name"] for each in system["serverData"]["servers"]}


CLIENT = TestClient(build_app(optimize, RestOptions(full=True)), raise_server_exceptions=False)
