"""Between the JSON forms and the values inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api import specs
from controlloop.api.convert import (
    allocation_from_spec,
    load_from_spec,
    perf_from_spec,
    spec_from_allocation,
    spec_from_load,
    spec_from_perf,
    spec_from_solution,
    spec_from_system,
    system_from_spec,
)
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    Objective,
    OptimizerOptions,
    PerfParameters,
    Power,
    SaturationPolicy,
    Server,
    ServiceClass,
    Target,
    Variant,
)
from controlloop.errors import InputError

DOCUMENT = {
    "system": {
        "acceleratorData": {
            "accelerators": [
                {
                    "name": "4xA100",
                    "type": "A100",
                    "multiplicity": 4,
                    "memSize": 320,
                    "memBW": 8000,
                    "power": {"idle": 600, "full": 1600, "midPower": 1280, "midUtil": 0.6},
                    "cost": 160,
                }
            ]
        },
        "capacityData": {"count": [{"type": "A100", "count": 512}]},
        "modelData": {
            "models": [
                {
                    "name": "m",
                    "acc": "4xA100",
                    "accCount": 2,
                    "maxBatchSize": 32,
                    "atTokens": 512,
                    "decodeParms": {"alpha": 10, "beta": 0.2},
                    "prefillParms": {"gamma": 80, "delta": 0.006},
                }
            ]
        },
        "serviceClassData": {
            "serviceClasses": [
                {
                    "name": "c",
                    "priority": 3,
                    "modelTargets": [
                        {"model": "m", "slo-itl": 40, "slo-ttft": 900, "slo-tps": 1200}
                    ],
                }
            ]
        },
        "serverData": {
            "servers": [
                {
                    "name": "s",
                    "class": "c",
                    "model": "m",
                    "keepAccelerator": True,
                    "minNumReplicas": 2,
                    "maxBatchSize": 16,
                    "currentAlloc": {
                        "accelerator": "4xA100",
                        "numReplicas": 3,
                        "maxBatch": 16,
                        "cost": 960,
                        "itlAverage": 12,
                        "ttftAverage": 300,
                        "load": {"arrivalRate": 90, "avgInTokens": 128, "avgOutTokens": 512},
                    },
                    "desiredAlloc": {
                        "accelerator": "",
                        "numReplicas": 0,
                        "maxBatch": 0,
                        "cost": 0,
                        "itlAverage": 0,
                        "ttftAverage": 0,
                        "load": {"arrivalRate": 0, "avgInTokens": 0, "avgOutTokens": 0},
                    },
                }
            ]
        },
        "optimizerData": {
            "optimizer": {
                "unlimited": False,
                "heterogeneous": True,
                "milpSolver": True,
                "useCplex": True,
                "delayedBestEffort": True,
                "saturationPolicy": "RoundRobin",
                "solver": "mine",
            }
        },
    }
}


def test_every_field_reaches_its_place_in_the_units_inside() -> None:
    system = system_from_spec(read(specs.SystemData, DOCUMENT))
    power = Power(idle_w=600, full_w=1600, mid_w=1280, mid_utilization=0.6)
    assert system.accelerators == (Accelerator("4xA100", "A100", 4, 160, 320, 8000, power),)
    assert dict(system.capacity) == {"A100": 512}
    assert system.perf == (PerfParameters("m", "4xA100", (10, 0.2, 80, 0.006), 32, 512, 2),)
    assert system.classes == (ServiceClass("c", 3, (Target("m", 40, 900, 1200),)),)
    current = Allocation("4xA100", 3, 16, 960, 12, 300, Load(1.5, 128, 512))
    keeps = {"keep_accelerator": True, "min_replicas": 2, "max_batch": 16}
    assert system.servers == (
        Server("s", "m", "c", current=current, desired=Allocation(), **keeps),  # type: ignore[arg-type]
    )
    policy = SaturationPolicy.ROUND_ROBIN
    assert system.options == OptimizerOptions(
        heterogeneous=True,
        milp_solver=True,
        use_cplex=True,
        delayed_best_effort=True,
        saturation_policy=policy,
        solver="mine",
    )


def test_a_system_is_written_as_it_was_read() -> None:
    data = read(specs.SystemData, DOCUMENT, unknown=UnknownKeys.REJECT)
    assert spec_from_system(system_from_spec(data)).document() == DOCUMENT


@given(st.integers(0, 10**9).map(lambda hundredths: hundredths / 100))
def test_a_rate_comes_out_as_it_was_written(rate_rpm: float) -> None:
    spec = specs.LoadSpec(arrival_rate=rate_rpm, avg_in_tokens=1.5, avg_out_tokens=2)
    assert load_from_spec(spec).rate_rps == pytest.approx(rate_rpm / 60)
    assert spec_from_load(load_from_spec(spec)) == spec


def test_named_parameters_keep_their_names_and_their_order() -> None:
    document = {
        "name": "m",
        "acc": "a",
        "accCount": 1,
        "maxBatchSize": 8,
        "atTokens": 512,
        "queueModel": "iteration-time",
        "parameters": {"gamma_ms": 0.0005, "Alpha_ms": 8, "beta_ms": 0.016},
    }
    spec = read(specs.ModelAcceleratorPerfData, document)
    perf = perf_from_spec(spec)
    assert perf.queue_model == "iteration-time"
    assert perf.parameter_names == ("gamma_ms", "Alpha_ms", "beta_ms")
    assert perf.parameters == (0.0005, 8.0, 0.016)
    assert spec_from_perf(perf).document() == document


def test_another_queue_model_may_take_decode_and_prefill_parameters() -> None:
    document = DOCUMENT["system"]["modelData"]["models"][0] | {"queueModel": "mm1k"}  # type: ignore[index]
    perf = perf_from_spec(read(specs.ModelAcceleratorPerfData, document))
    assert perf.queue_model == "mm1k"
    assert spec_from_perf(perf).document() == document


def test_a_solution_lists_allocations_and_who_is_not_served() -> None:
    unserved = Unserved("b", UnservedReason.NO_CAPACITY, "needs 4 cards of A100, 1 is free")
    solution = Solution(
        allocations={"z": Allocation(), "a": Allocation("4xA100", 2, 16, 320, 10.5, 99)},
        unserved=(unserved,),
        status=SolveStatus.FEASIBLE,
        solver="greedy",
        objective=320,
    )
    document = spec_from_solution(solution).document()
    assert list(document["allocations"]) == ["a", "z"]
    assert document["allocations"]["a"] == {
        "accelerator": "4xA100",
        "numReplicas": 2,
        "maxBatch": 16,
        "cost": 320,
        "itlAverage": 10.5,
        "ttftAverage": 99,
        "load": {"arrivalRate": 0, "avgInTokens": 0, "avgOutTokens": 0},
    }
    assert document["unserved"] == {
        "b": {"reason": "no-capacity", "detail": "needs 4 cards of A100, 1 is free"}
    }


def test_a_solution_that_serves_all_is_as_documented() -> None:
    solution = Solution({"a": Allocation()}, (), SolveStatus.OPTIMAL, "unlimited", 0.0)
    assert set(spec_from_solution(solution).document()) == {"allocations"}


def test_all_reference_systems_pass_through_unharmed(shared_json: Callable[[str], Any]) -> None:
    scenarios = shared_json("reference/optimizer-scenarios.json")["scenarios"]
    assert len(scenarios) == 30
    for scenario in scenarios:
        data = read(specs.SystemData, scenario["input"], unknown=UnknownKeys.REJECT)
        system = system_from_spec(data)
        assert spec_from_system(system) == data
        for allocation in scenario["allocations"].values():
            read(specs.AllocationData, allocation, unknown=UnknownKeys.REJECT)


WEIGHTED = {"optimizer": {"objective": "weighted", "energyPrice": 30}}


def test_the_objective_and_the_price_of_energy_survive_the_way_there_and_back() -> None:
    system = system_from_spec(
        read(specs.SystemData, {"system": {**DOCUMENT["system"], "optimizerData": WEIGHTED}})
    )
    assert (system.options.objective, system.options.energy_price) == (Objective.WEIGHTED, 30.0)
    assert spec_from_system(system).document()["system"]["optimizerData"] == {
        "optimizer": {
            "unlimited": False,
            "heterogeneous": False,
            "milpSolver": False,
            "useCplex": False,
            "delayedBestEffort": False,
            "saturationPolicy": "None",
            "objective": "weighted",
            "energyPrice": 30,
        }
    }


def test_a_weighted_objective_needs_the_price_of_energy() -> None:
    optimizer = {"optimizer": {"objective": "weighted"}}
    with pytest.raises(InputError, match="energyPrice: is required where objective is weighted"):
        read(specs.OptimizerData, optimizer)


def test_variants_of_an_allocation_go_through_the_form_with_their_totals() -> None:
    parts = (
        Variant("A", 3, 16, 30.0, 11.0, 120.0, 0.75),
        Variant("B", 1, 8, 5.0, 14.0, 140.0, 0.25),
    )
    allocation = Allocation("A", 3, 16, 30.0, 11.0, 120.0, Load(1.0, 50, 100), parts)
    document = spec_from_allocation(allocation).document()
    assert (document["numReplicas"], document["totalReplicas"]) == (3, 4)
    assert (document["cost"], document["totalCost"]) == (30, 35)
    assert [each["share"] for each in document["variants"]] == [0.75, 0.25]
    assert allocation_from_spec(read(specs.AllocationData, document)) == allocation
    alone = spec_from_allocation(replace(allocation, variants=())).document()
    assert not {"variants", "totalReplicas", "totalCost"} & alone.keys()
