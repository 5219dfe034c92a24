"""Bad documents: every problem at once, with path, rule and value in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from controlloop.api import specs
from controlloop.api.reading import UnknownKeys, read, read_json, read_optimizer
from controlloop.errors import InputError

PERF: dict[str, Any] = {
    "name": "m",
    "acc": "a",
    "maxBatchSize": 8,
    "atTokens": 512,
    "decodeParms": {"alpha": 1, "beta": 0.1},
    "prefillParms": {"gamma": 2, "delta": 0.01},
}
LOAD = "LoadSpec"
TYPE_OF_HALF_A_CHARACTER = r'type: must be Unicode text, got "\ud800"'
ACC = {"name": "a", "type": "t", "cost": 1}


def problems(form: str, document: object, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(specs.FORMS[form], document, **options)
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_of_a_document_is_told_at_once() -> None:
    document = {
        "system": {
            "acceleratorData": {"accelerators": [ACC, {"name": "a", "cost": -1}]},
            "modelData": {"models": [PERF | {"accCount": -2, "atTokens": 1.5}, PERF]},
            "serviceClassData": {"serviceClasses": {}},
            "serverData": {
                "servers": [
                    {"name": "s", "model": "m"},
                    {"model": "m", "keepAccelerator": "yes"},
                    {"name": "t", "model": "m"},
                    {"name": "u", "model": 7, "currentAlloc": {"load": {"ArrivalRate": -4}}},
                ]
            },
            "optimizerData": {"optimizer": {"unlimited": 1}},
        }
    }
    assert sorted(problems("SystemData", document)) == sorted(
        [
            (
                "system.acceleratorData.accelerators[1].name: must be unique, but "
                'system.acceleratorData.accelerators[0] has it too, got "a"'
            ),
            "system.acceleratorData.accelerators[1].type: is required",
            "system.acceleratorData.accelerators[1].cost: must be >= 0, got -1",
            "system.modelData.models[0].accCount: must be >= 0, got -2",
            "system.modelData.models[0].atTokens: must be a whole number, got 1.5",
            (
                "system.modelData.models[1]: name and acc must be unique together, but "
                'system.modelData.models[0] has them too, got "m", "a"'
            ),
            "system.serviceClassData.serviceClasses: must be a list, got {}",
            "system.serverData.servers[1].name: is required",
            'system.serverData.servers[1].keepAccelerator: must be true or false, got "yes"',
            "system.serverData.servers[3].model: must be a string, got 7",
            "system.serverData.servers[3].currentAlloc.load.arrivalRate: must be >= 0, got -4",
            "system.optimizerData.optimizer.unlimited: must be true or false, got 1",
        ]
    )


@pytest.mark.parametrize(
    ("form", "document", "problem"),
    [
        (LOAD, {"arrivalRate": "3"}, 'arrivalRate: must be a number, got "3"'),
        (LOAD, {"arrivalRate": True}, "arrivalRate: must be a number, got true"),
        (LOAD, {"arrivalRate": float("nan")}, "arrivalRate: must be a finite number, got NaN"),
        (LOAD, {"arrivalRate": float("inf")}, "arrivalRate: must be a finite number, got Infinity"),
        (
            LOAD,
            {"arrivalRate": 1e13},
            "arrivalRate: must be <= 1e+12, got 10000000000000.0",
        ),
        ("AcceleratorCount", {"type": "\ud800", "count": 1}, TYPE_OF_HALF_A_CHARACTER),
        (LOAD, [], "must be an object, got []"),
        (LOAD, None, "must be an object, got null"),
        (
            "AcceleratorCount",
            {"type": "t", "count": True},
            "count: must be a whole number, got true",
        ),
        ("AcceleratorCount", {"type": "", "count": 1}, 'type: must not be empty, got ""'),
        ("AcceleratorCount", {"type": "t", "count": None}, "count: is required"),
        ("AcceleratorSpec", ACC | {"multiplicity": 0}, "multiplicity: must be >= 1, got 0"),
        ("AcceleratorSpec", ACC | {"power": {"midUtil": 2}}, "power.midUtil: must be <= 1, got 2"),
        ("ServerData", {"servers": [None]}, "servers[0]: must be an object, got null"),
        (
            "OptimizerSpec",
            {"saturationPolicy": "some"},
            (
                "saturationPolicy: must be 'None', 'PriorityExhaustive', 'PriorityRoundRobin' or"
                " 'RoundRobin', got \"some\""
            ),
        ),
        (
            "AllocationSolution",
            {"allocations": {"a.b": {"cost": -1}}},
            'allocations["a.b"].cost: must be >= 0, got -1',
        ),
        (LOAD, {"arrivalRate": "x" * 90}, f'arrivalRate: must be a number, got "{"x" * 56}...'),
    ],
)
def test_a_bad_value_is_told_with_path_rule_and_value(
    form: str, document: object, problem: str
) -> None:
    assert problems(form, document) == [problem]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"decodeParms": None}, ["decodeParms: is required"]),
        ({"prefillParms": {"gamma": 1}}, ["prefillParms.delta: is required"]),
        (
            {"accCount": -1, "prefillParms": None},
            ["accCount: must be >= 0, got -1", "prefillParms: is required"],
        ),
        (
            {"decodeParms": {"alpha": 0, "beta": 0}},
            ["decodeParms.alpha: must be > 0, got 0"],
        ),
        (
            {"queueModel": "state-dependent", "parameters": {"alpha_ms": 1}},
            [
                (
                    "parameters: is for other queue models; state-dependent takes decodeParms and"
                    ' prefillParms, got {"alpha_ms": 1}'
                )
            ],
        ),
        (
            {"queueModel": "mm1k", "parameters": {"service_ms": 1}, "prefillParms": None},
            [
                (
                    "decodeParms: must not be given together with parameters, got"
                    ' {"alpha": 1, "beta": 0.1}'
                )
            ],
        ),
        (
            {"queueModel": "mm1k", "decodeParms": None, "prefillParms": None},
            ["decodeParms: is required", "prefillParms: is required"],
        ),
        (
            {
                "queueModel": "x",
                "parameters": {"a": "1"},
                "decodeParms": None,
                "prefillParms": None,
            },
            ['parameters.a: must be a number, got "1"'],
        ),
    ],
)
def test_performance_data_has_its_parameters_in_one_form(
    change: dict[str, Any], expected: list[str]
) -> None:
    assert problems("ModelAcceleratorPerfData", PERF | change) == expected


def test_performance_data_of_zero_prefill_is_good() -> None:
    document = PERF | {"prefillParms": {"gamma": 0, "delta": 0}}
    assert read(specs.ModelAcceleratorPerfData, document).prefill_parms is not None


@pytest.mark.parametrize(
    ("form", "document", "path"),
    [
        ("CapacityData", {"count": [{"type": "t", "count": 1}] * 2}, "count[1].type"),
        ("ServiceClassData", {"serviceClasses": [{"name": "c"}] * 2}, "serviceClasses[1].name"),
        (
            "ServiceClassSpec",
            {"name": "c", "modelTargets": [{"model": "m"}, {"MODEL": "m"}]},
            "modelTargets[1].model",
        ),
        ("ServerData", {"servers": [{"name": "s", "model": "m"}] * 2}, "servers[1].name"),
        ("ModelData", {"models": [PERF, PERF | {"acc": "b"}, PERF]}, "models[2]"),
    ],
)
def test_a_name_given_twice_is_an_error(form: str, document: object, path: str) -> None:
    with pytest.raises(InputError) as caught:
        read(specs.FORMS[form], document)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_one_key_in_two_spellings_is_an_error() -> None:
    assert problems(LOAD, {"avgInTokens": 3, "AvgInTokens": 4}) == [
        "avgInTokens: is given twice, as avgInTokens and as AvgInTokens"
    ]


def test_one_key_twice_in_json_text_is_an_error_where_it_stands() -> None:
    text = '{"load": {"arrivalRate": 1, "arrivalRate": 2}}'
    with pytest.raises(InputError, match=r"^load\.arrivalRate: is given twice$"):
        read_json(specs.AllocationData, text)


def test_a_parameter_twice_in_json_text_is_an_error() -> None:
    text = (
        '{"name": "m", "acc": "a", "maxBatchSize": 1, "atTokens": 1, "queueModel": "x",'
        ' "parameters": {"p": 1, "p": 2}}'
    )
    with pytest.raises(InputError, match=r"^parameters\.p: is given twice$"):
        read_json(specs.ModelAcceleratorPerfData, text)


def test_unknown_keys_are_ignored_on_request_and_else_named_with_the_nearest() -> None:
    document = {"servers": [{"name": "s", "model": "m", "keepAcelerator": True, "zzz": 1}]}
    assert not read(specs.ServerData, document).servers[0].keep_accelerator
    assert problems("ServerData", document, unknown=UnknownKeys.REJECT) == [
        "servers[0].keepAcelerator: is not a known key; did you mean keepAccelerator?",
        (
            "servers[0].zzz: is not a known key; known are name, class, model, keepAccelerator,"
            " minNumReplicas, maxBatchSize, currentAlloc, desiredAlloc"
        ),
    ]


def test_python_names_are_no_keys() -> None:
    spec = read(specs.ModelTarget, {"model": "m", "slo_itl": 5})
    assert spec.slo_itl == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"count": 1,\n "type": }', "f: line 2, column 10: is not JSON: expecting value"),
        ("", "f: line 1, column 1: is not JSON: expecting value"),
        (b"\xff", "f: byte 0: must be UTF-8 text"),
        ("[" * 200_000, "f: is nested too deeply"),
        ('{"count": ' + "9" * 5000 + "}", "f: holds a number with too many digits"),
    ],
)
def test_broken_text_is_told_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_json(specs.AcceleratorCount, text, source="f")
    assert str(caught.value) == message


def test_no_depth_of_nesting_is_more_than_an_error() -> None:
    for depth in range(10, 1500, 7):
        text = '{"arrivalRate": ' + "[" * depth + "]" * depth + "}"
        with pytest.raises(InputError):
            read_json(specs.LoadSpec, text)


def test_a_byte_order_mark_is_no_fault() -> None:
    text = '\ufeff{"type": "t", "count": 1}'
    assert read_json(specs.AcceleratorCount, text.encode()).count == 1


def test_a_document_within_another_is_told_with_its_place_there() -> None:
    found = problems("AcceleratorCount", {"type": "t"}, path="capacity", source="f")
    assert found == ["capacity.count: is required"]


def test_optimizer_flags_are_read_bare_and_wrapped() -> None:
    flags = {"milpsolver": True}
    assert read_optimizer(flags) == read_optimizer({"Optimizer": flags})
    assert read_optimizer(flags).milp_solver
    with pytest.raises(InputError, match=r"^optimizer\.unlimited: "):
        read_optimizer({"optimizer": {"unlimited": "no"}})
