"""The 30 reference systems: equal allocations, and everybody else named with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlloop.api.convert import spec_from_allocation, system_from_spec
from controlloop.api.reading import read
from controlloop.api.solution import UnservedReason
from controlloop.api.specs import SystemData
from controlloop.optimizer import optimize

SCENARIOS = 30
# After best effort the reference leaves the latencies of the full replica count as they were.
SCALED = {UnservedReason.NO_CAPACITY}


@pytest.mark.parametrize("number", range(SCENARIOS))
def test_allocations_equal_the_reference(shared_json: Callable[[str], Any], number: int) -> None:
    scenarios = shared_json("reference/optimizer-scenarios.json")["scenarios"]
    assert len(scenarios) == SCENARIOS
    scenario = scenarios[number]
    system = system_from_spec(read(SystemData, scenario["input"], source=scenario["name"]))
    solution = optimize(system)

    expected = scenario["allocations"]
    found = {name: spec_from_allocation(each) for name, each in solution.allocations.items()}
    # The reference's greedy leaves out who needs nothing; that is the zero allocation here.
    zero = {name for name, each in found.items() if not each.accelerator and name not in expected}
    assert all(found[name].num_replicas == 0 and found[name].cost == 0 for name in zero)
    assert found.keys() - zero == expected.keys()
    unserved = {entry.server: entry.reason for entry in solution.unserved}
    names = {server.name for server in system.servers}
    assert unserved.keys() - expected.keys() == names - expected.keys() - zero

    for name, wanted in expected.items():
        mine = found[name]
        assert mine.accelerator == wanted["accelerator"]
        assert mine.num_replicas == wanted["numReplicas"]
        assert mine.max_batch == wanted["maxBatch"]
        assert mine.cost == pytest.approx(wanted["cost"], rel=1e-3)
        if unserved.get(name) not in SCALED:
            assert mine.itl_average == pytest.approx(wanted["itlAverage"], rel=1e-3)
            assert mine.ttft_average == pytest.approx(wanted["ttftAverage"], rel=1e-3)
        assert mine.load.arrival_rate == pytest.approx(wanted["load"]["arrivalRate"], rel=1e-6)
