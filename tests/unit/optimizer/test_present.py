"""What is predicted of what runs now."""

from __future__ import annotations

import math
from dataclasses import replace

from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
    Variant,
)
from controlloop.optimizer.present import predict_present

LOAD = Load(2.0, 256.0, 128.0)
ONE = Allocation("A100", 2, 32, 80.0, itl_ms=1.0, ttft_ms=2.0, load=LOAD)
MIX = replace(
    ONE,
    variants=(
        Variant("A100", 2, 32, 80.0, itl_ms=1.0, ttft_ms=2.0, share=0.7),
        Variant("H100", 1, 32, 90.0, itl_ms=1.0, ttft_ms=2.0, share=0.3),
    ),
)


def system(current: Allocation) -> System:
    return System(
        accelerators=(Accelerator("A100", "A100", cost_per_hour=40.0),),
        capacity={"A100": 8},
        perf=(PerfParameters("m", "A100", (11.0, 0.2, 60.0, 0.005), 32, 256),),
        classes=(ServiceClass("Premium", 1, (Target("m", 30.0, 1000.0),)),),
        servers=(Server(name="s", model="m", service_class="Premium", current=current),),
    )


def test_it_is_predicted_for_the_load_of_now() -> None:
    found = predict_present(system(ONE))["s"]
    busier = predict_present(system(replace(ONE, load=replace(LOAD, rate_rps=6.0))))["s"]
    assert 11.0 < found.itl_ms < busier.itl_ms


def test_of_a_mix_nothing_old_is_taken_for_a_prediction() -> None:
    found = predict_present(system(MIX))["s"]
    assert math.isnan(found.itl_ms)
    assert [part.replicas for part in found.variants] == [2, 1]
    assert all(math.isnan(part.itl_ms) and math.isnan(part.ttft_ms) for part in found.variants)


def test_what_runs_nothing_is_absent() -> None:
    assert predict_present(system(Allocation(load=LOAD))) == {}
