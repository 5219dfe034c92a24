"""A server that may choose its batch gets the one that needs least, and pays for a switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from controlloop.api.candidates import Candidates
from controlloop.api.decision import ServerConstraint
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.fleet import DemandRule
from controlloop.queueing.models import queue_models

LOAD = Load(20.0, 100.0, 200.0)
SYSTEM = System(
    accelerators=(Accelerator("A100", "A100", 1, 10.0), Accelerator("H100", "H100", 1, 25.0)),
    capacity={"A100": 99, "H100": 99},
    perf=(
        PerfParameters("m", "A100", (10.0, 0.3, 10.0, 0.02), 256, 256),
        PerfParameters("m", "H100", (5.0, 0.15, 5.0, 0.01), 256, 256),
    ),
    classes=(ServiceClass("Free", 100, (Target("m", 60.0, 2000.0),)),),
    servers=tuple(
        Server(name, "m", max_batch=16, current=Allocation("A100", 9, 16, 90.0, load=LOAD))
        for name in ("chat", "other")
    ),
)
GRID = (16, 8, 32, 64, 128)


def candidates(choices: Mapping[str, tuple[int, ...]] | None, batch: int | None = 16) -> Candidates:
    bounds = {"chat": ServerConstraint(max_batch=batch, choices=choices)}
    model_of = queue_models().create
    return build_candidates(SYSTEM, model_of, rule=DemandRule.LOOP, constraints=bounds)


def rows(found: Candidates, server: str = "chat") -> dict[str, tuple[int, int]]:
    at = found.servers.index(server)
    return {
        found.accelerators[found.accelerator[row]]: (
            int(found.max_batch[row]),
            int(found.replicas[row]),
        )
        for row in range(found.start[at], found.start[at + 1])
    }


def alone(batch: int) -> dict[str, tuple[int, int]]:
    return rows(candidates(None, batch))


def test_each_accelerator_has_the_batch_that_needs_the_fewest_replicas() -> None:
    found = rows(candidates({"A100": GRID, "H100": (16, 8)}))
    for name, batches in (("A100", GRID), ("H100", (16, 8))):
        needs = {batch: alone(batch)[name][1] for batch in batches}
        assert found[name][1] == min(needs.values())
        assert needs[found[name][0]] == found[name][1]
    assert found["A100"][1] < alone(16)["A100"][1]


def test_the_first_of_equals_is_taken() -> None:
    best = rows(candidates({"A100": GRID}))["A100"]
    equals = [batch for batch in (128, 96, 64, 256) if alone(batch)["A100"][1] == best[1]]
    assert len(equals) > 1
    for order in (equals, equals[::-1]):
        assert rows(candidates({"A100": tuple(order)}))["A100"][0] == order[0]


def test_who_has_no_choice_is_as_if_nobody_had_one() -> None:
    chosen, plain = candidates({"A100": GRID}), candidates(None)
    assert rows(chosen, "other") == rows(plain, "other")
    mine, before = chosen.server == 1, plain.server == 1
    np.testing.assert_array_equal(chosen.value[mine], plain.value[before])


def test_another_batch_pays_the_penalty_of_a_switch() -> None:
    stays, moves = candidates({"A100": (16,)}), candidates({"A100": (16, 128)})
    assert stays.value[0] == stays.cost[0] - 90.0
    assert moves.value[0] == pytest.approx(moves.cost[0] - 90.0 + 0.1 * (90.0 + moves.cost[0]))
    # What runs is predicted at the batch that runs, whatever is chosen.
    for here, there in zip(moves.predict_current(), stays.predict_current(), strict=True):
        np.testing.assert_allclose(here, there)


def test_an_accelerator_that_cannot_be_is_named_with_its_reason() -> None:
    tight = replace(SYSTEM.classes[0], targets=(Target("m", 8.0, 2000.0),))
    found = build_candidates(
        replace(SYSTEM, classes=(tight,)),
        queue_models().create,
        rule=DemandRule.LOOP,
        constraints={"chat": ServerConstraint(choices={"A100": GRID, "H100": GRID})},
    )
    assert list(rows(found)) == ["H100"]
    mine = found.infeasible.server == 0
    assert found.infeasible.accelerator[mine].tolist() == [0]
    assert np.isfinite(found.infeasible.floor[mine]).all()
