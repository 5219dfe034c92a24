"""Every JSON form: read as written in any case, written in the documented spelling."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api import specs
from controlloop.api.reading import UnknownKeys, read, read_json
from controlloop.api.solution import SolveStatus, UnservedReason
from controlloop.api.system import Objective, SaturationPolicy

names = st.text(min_size=1, max_size=12)
counts = st.integers(0, 10**9)
positive = st.integers(1, 10**9)
quantities = st.floats(0, 1e12)
fractions = st.floats(0, 1)


def build(form: type[specs.Form], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(fields).map(lambda values: form(**values))


def tuples(form: st.SearchStrategy[Any], *keys: str) -> st.SearchStrategy[Any]:
    def identity(entry: Any) -> tuple[Any, ...]:
        return tuple(getattr(entry, key) for key in keys)

    return st.lists(form, max_size=4, unique_by=identity).map(tuple)


power = build(
    specs.PowerSpec, idle=quantities, full=quantities, mid_power=quantities, mid_util=fractions
)
accelerator = build(
    specs.AcceleratorSpec,
    name=names,
    type=names,
    multiplicity=positive,
    mem_size=quantities,
    mem_bw=quantities,
    power=power,
    cost=quantities,
)
accelerator_data = build(specs.AcceleratorData, accelerators=tuples(accelerator, "name"))
count = build(specs.AcceleratorCount, type=names, count=counts)
capacity_data = build(specs.CapacityData, count=tuples(count, "type"))
usual_perf = build(
    specs.ModelAcceleratorPerfData,
    name=names,
    acc=names,
    acc_count=positive,
    max_batch_size=positive,
    at_tokens=positive,
    queue_model=st.sampled_from([None, "state-dependent", "mm1k"]),
    decode_parms=build(specs.DecodeParms, alpha=st.floats(0.001, 1e12), beta=quantities),
    prefill_parms=build(specs.PrefillParms, gamma=quantities, delta=quantities),
)
other_perf = build(
    specs.ModelAcceleratorPerfData,
    name=names,
    acc=names,
    max_batch_size=positive,
    at_tokens=positive,
    queue_model=st.just("iteration-time"),
    parameters=st.dictionaries(names, st.floats(-1e12, 1e12), min_size=1, max_size=4),
)
perf = usual_perf | other_perf
model_data = build(specs.ModelData, models=tuples(perf, "name", "acc"))
target = build(
    specs.ModelTarget, model=names, slo_itl=quantities, slo_ttft=quantities, slo_tps=quantities
)
service_class = build(
    specs.ServiceClassSpec,
    name=names,
    priority=st.integers(-5, 200),
    model_targets=tuples(target, "model"),
)
class_data = build(specs.ServiceClassData, service_classes=tuples(service_class, "name"))
load = build(
    specs.LoadSpec, arrival_rate=quantities, avg_in_tokens=quantities, avg_out_tokens=quantities
)
allocation = build(
    specs.AllocationData,
    accelerator=st.text(max_size=8),
    num_replicas=counts,
    max_batch=counts,
    cost=quantities,
    itl_average=quantities,
    ttft_average=quantities,
    load=load,
)
server = build(
    specs.ServerSpec,
    name=names,
    service_class=st.text(max_size=8),
    model=names,
    keep_accelerator=st.booleans(),
    min_num_replicas=counts,
    max_batch_size=counts,
    current_alloc=allocation,
    desired_alloc=st.none() | allocation,
)
server_data = build(specs.ServerData, servers=tuples(server, "name"))
optimizer = build(
    specs.OptimizerSpec,
    unlimited=st.booleans(),
    heterogeneous=st.booleans(),
    milp_solver=st.booleans(),
    use_cplex=st.booleans(),
    delayed_best_effort=st.booleans(),
    saturation_policy=st.sampled_from(SaturationPolicy),
    solver=st.none() | names,
    objective=st.none() | st.sampled_from(Objective),
    energy_price=quantities,
    time_limit=st.none() | st.floats(0.001, 3600),
    gap=st.none() | st.floats(0, 1),
)
optimizer_data = build(specs.OptimizerData, optimizer=optimizer)
system_data = build(
    specs.SystemData,
    system=build(
        specs.SystemSpec,
        accelerator_data=accelerator_data,
        capacity_data=capacity_data,
        model_data=model_data,
        service_class_data=class_data,
        server_data=server_data,
        optimizer_data=optimizer_data,
    ),
)
unserved = build(
    specs.UnservedSpec, reason=st.sampled_from(UnservedReason), detail=st.text(max_size=8)
)
solution = build(
    specs.AllocationSolution,
    allocations=st.dictionaries(names, allocation, max_size=3),
    unserved=st.none() | st.dictionaries(names, unserved, max_size=3),
    power=st.none()
    | build(
        specs.PowerPrediction,
        total=quantities,
        servers=st.dictionaries(names, quantities, max_size=3),
    ),
    solver=st.none()
    | build(
        specs.SolverReport,
        asked=names,
        used=names,
        status=st.sampled_from(SolveStatus),
        value=st.none() | st.floats(-1e12, 1e12),
        gap=st.none() | quantities,
        seconds=quantities,
    ),
    explanations=st.none() | st.dictionaries(names, st.just({}), max_size=2),
)
EVERY_FORM: dict[str, st.SearchStrategy[Any]] = {
    "AcceleratorSpec": accelerator,
    "AcceleratorData": accelerator_data,
    "AcceleratorCount": count,
    "CapacityData": capacity_data,
    "ModelAcceleratorPerfData": perf,
    "ModelData": model_data,
    "ModelTarget": target,
    "ServiceClassSpec": service_class,
    "ServiceClassData": class_data,
    "LoadSpec": load,
    "AllocationData": allocation,
    "ServerSpec": server,
    "ServerData": server_data,
    "OptimizerSpec": optimizer,
    "OptimizerData": optimizer_data,
    "SystemData": system_data,
    "AllocationSolution": solution,
}

# As documented; `queueModel`, `parameters`, `solver`, `objective`, `energyPrice`, `timeLimit`,
# `gap`, and `unserved`, `power`, `solver` and `explanations` of a solution are ours.
DOCUMENTED = {
    "AcceleratorSpec": "name type multiplicity memSize memBW power cost",
    "AcceleratorCount": "type count",
    "CapacityData": "count",
    "ModelAcceleratorPerfData": (
        "name acc accCount maxBatchSize atTokens decodeParms prefillParms queueModel parameters"
    ),
    "ModelData": "models",
    "ModelTarget": "model slo-itl slo-ttft slo-tps",
    "ServiceClassSpec": "name priority modelTargets",
    "ServiceClassData": "serviceClasses",
    "ServerSpec": (
        "name class model keepAccelerator minNumReplicas maxBatchSize currentAlloc desiredAlloc"
    ),
    "ServerData": "servers",
    "AllocationData": "accelerator numReplicas maxBatch cost itlAverage ttftAverage load",
    "LoadSpec": "arrivalRate avgInTokens avgOutTokens",
    "OptimizerSpec": (
        "unlimited heterogeneous milpSolver useCplex delayedBestEffort saturationPolicy solver"
        " objective energyPrice timeLimit gap"
    ),
    "OptimizerData": "optimizer",
    "SystemData": "system",
    "AllocationSolution": "allocations unserved power solver explanations",
}


def recased(value: Any, choose: random.Random, *, data: bool = False) -> Any:
    """The same document with the keys of forms in another case; keys that are data stay."""
    if isinstance(value, list):
        return [recased(each, choose) for each in value]
    if not isinstance(value, dict):
        return value
    names_follow = ("allocations", "unserved", "parameters", "servers", "explanations")
    return {
        key if data else "".join(choose.choice([c.upper(), c.lower()]) for c in key): recased(
            each, choose, data=not data and key in names_follow
        )
        for key, each in value.items()
    }


def test_every_form_is_tried() -> None:
    assert set(EVERY_FORM) == set(specs.FORMS)


@pytest.mark.parametrize("name", EVERY_FORM)
def test_what_is_written_is_read_again_in_any_case(name: str) -> None:
    form = specs.FORMS[name]

    @given(EVERY_FORM[name], st.randoms(use_true_random=False))
    def check(value: specs.Form, choose: random.Random) -> None:
        written = json.dumps(recased(value.document(), choose))
        again = read_json(form, written, unknown=UnknownKeys.REJECT)
        assert again == value
        assert again.document() == value.document()

    check()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_keys_are_written_as_documented(name: str) -> None:
    documented = set(DOCUMENTED[name].split())
    written: set[str] = set()

    @given(EVERY_FORM[name])
    def check(value: specs.Form) -> None:
        written.update(value.document())
        assert set(value.document()) <= documented

    check()
    assert written == documented


def test_nested_keys_are_written_as_documented() -> None:
    spec = specs.AcceleratorSpec(name="L4", type="L4", cost=50)
    assert set(spec.document()["power"]) == {"idle", "full", "midPower", "midUtil"}
    data = {"name": "m", "acc": "L4", "maxBatchSize": 8, "atTokens": 512}
    given_parms = {"decodeParms": {"ALPHA": 1, "beta": 2}, "prefillParms": {"gamma": 3, "Delta": 0}}
    perf = read(specs.ModelAcceleratorPerfData, data | given_parms).document()
    assert perf["decodeParms"] == {"alpha": 1, "beta": 2}
    assert perf["prefillParms"] == {"gamma": 3, "delta": 0}


def test_whole_numbers_are_written_without_a_point_and_others_as_numbers() -> None:
    spec = specs.AcceleratorSpec(name="L4", type="L4", cost=6.0, mem_size=22.5)
    assert json.dumps(spec.document()["cost"]) == "6"
    assert json.dumps(spec.document()["memSize"]) == "22.5"


def test_documented_defaults_are_filled_in() -> None:
    perf_data = {
        "name": "m",
        "acc": "a",
        "maxBatchSize": 8,
        "atTokens": 512,
        "decodeParms": {"alpha": 1, "beta": 0},
        "prefillParms": {"gamma": 0, "delta": 0},
    }
    assert read(specs.ModelAcceleratorPerfData, perf_data).acc_count == 1
    assert read(specs.ModelAcceleratorPerfData, perf_data | {"accCount": 0}).acc_count == 1
    bare = {"name": "s", "model": "m"}
    assert read(specs.ServerSpec, bare).service_class == "Free"
    assert read(specs.ServerSpec, bare | {"class": ""}).service_class == "Free"
    assert read(specs.ServerSpec, bare | {"currentAlloc": None}) == read(specs.ServerSpec, bare)
    assert read(specs.OptimizerSpec, {}).saturation_policy is SaturationPolicy.NONE
    empty_policy = read(specs.OptimizerSpec, {"saturationPolicy": ""})
    assert empty_policy.saturation_policy is SaturationPolicy.NONE


@pytest.mark.parametrize(
    ("given_priority", "priority"), [(1, 1), (100, 100), (0, 100), (-3, 100), (101, 100), (2.0, 2)]
)
def test_a_priority_outside_its_range_is_the_lowest(given_priority: float, priority: int) -> None:
    data = {"name": "c", "priority": given_priority}
    assert read(specs.ServiceClassSpec, data).priority == priority
    assert read(specs.ServiceClassSpec, {"name": "c"}).priority == 100


def test_forms_are_frozen() -> None:
    spec = read(specs.AcceleratorCount, {"type": "L4", "count": 3})
    with pytest.raises(ValueError, match="frozen"):
        spec.count = 4  # type: ignore[misc]
