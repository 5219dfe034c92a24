"""Candidates worked out by hand: batch, demand, replicas, cost, value, bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from controlloop.api.candidates import Candidates
from controlloop.api.decision import ServerConstraint
from controlloop.api.replicas import Analysis, FloatArray, Replicas, Sizing, Targets
from controlloop.api.system import Accelerator, PerfParameters, ServiceClass, Target
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.fleet import DemandRule


@pytest.fixture
def two(lab: Any) -> tuple[list[Accelerator], list[PerfParameters]]:
    """Model m on "slow" (2/s a replica, 3 an hour) and on "fast" (5/s, 2 cards each, 10)."""
    return (
        [lab.accelerator("slow", 3.0), lab.accelerator("fast", 10.0, kind="F", cards=2)],
        [lab.perf("m", "slow", 2.0), lab.perf("m", "fast", 5.0)],
    )


def rows(candidates: Candidates) -> list[tuple[str, int, int, float]]:
    """Accelerator, replicas, max batch and cost of each row."""
    names = (*candidates.accelerators, "none")
    return [
        (names[at], replicas, batch, cost)
        for at, replicas, batch, cost in zip(
            candidates.accelerator.tolist(),
            candidates.replicas.tolist(),
            candidates.max_batch.tolist(),
            candidates.cost.tolist(),
            strict=True,
        )
    ]


def test_demand_is_spread_over_as_many_replicas_as_it_needs(lab: Any, two: Any) -> None:
    candidates = lab.candidates(lab.system(*two, [lab.server("s", 9.0)]))
    assert rows(candidates) == [("slow", 5, 8, 15.0), ("fast", 2, 8, 20.0)]
    assert candidates.cards_per_replica.tolist() == [1, 2]
    assert candidates.types == ("slow", "F")
    assert candidates.card_type.tolist() == [0, 1]
    itl, ttft = candidates.predict(np.array([0, 1]), candidates.replicas)
    assert_allclose(itl, [10, 10])
    assert_allclose(ttft, [10 + 100 * 9 / 10, 10 + 100 * 9 / 10])


def test_a_demand_of_a_whole_number_of_replicas_needs_no_further_one(lab: Any, two: Any) -> None:
    candidates = lab.candidates(lab.system(*two, [lab.server("s", 10.0 * (1 + 1e-12))]))
    assert [row[1] for row in rows(candidates)] == [5, 2]


def test_batch_shrinks_with_output_tokens_and_is_at_least_one(lab: Any, two: Any) -> None:
    servers = [
        lab.server("a", output_tokens=100.0),
        lab.server("b", output_tokens=300.0),
        lab.server("c", output_tokens=5000.0),
        lab.server("d", output_tokens=300.0, max_batch=40),
    ]
    candidates = lab.candidates(lab.system(two[0][:1], two[1][:1], servers))
    assert candidates.max_batch.tolist() == [8, 2, 1, 40]


@dataclass(frozen=True)
class Spy:
    """Notes what a queue model is asked to size."""

    inner: Any
    asked: list[Replicas] = field(default_factory=list)
    targets: list[Targets] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.inner.parameter_names
        return names

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        ends: tuple[FloatArray, FloatArray] = self.inner.rate_range_rps(replicas)
        return ends

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        analysis: Analysis = self.inner.analyze(replicas, rate_rps)
        return analysis

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        self.asked.append(replicas)
        self.targets.append(targets)
        sizing: Sizing = self.inner.size(replicas, targets)
        return sizing


def test_the_queue_holds_ten_batches(lab: Any, two: Any) -> None:
    spy = Spy(lab.queue)
    build_candidates(lab.system(*two, [lab.server("s")]), lambda _: spy)
    assert spy.asked[0].max_queue.tolist() == [80, 80]


def test_equal_questions_are_asked_once(lab: Any, two: Any) -> None:
    servers = [lab.server(f"s{at}", rate_rps=at + 1.0) for at in range(50)]
    spy = Spy(lab.queue)
    candidates = build_candidates(lab.system(*two, servers), lambda _: spy)
    assert len(candidates) == 100
    assert [len(asked) for asked in spy.asked] == [2]


def test_parameters_are_taken_by_name_whatever_their_order(lab: Any, two: Any) -> None:
    perf = lab.perf("m", "slow", parameters=(10.0, 2.0), parameter_names=("latency_ms", "rate_rps"))
    candidates = lab.candidates(lab.system(two[0], [perf], [lab.server("s", 9.0)]))
    assert rows(candidates) == [("slow", 5, 8, 15.0)]


def test_a_tps_target_replaces_the_arrivals(lab: Any, two: Any) -> None:
    classes = lab.classes("m", tps=1800.0)
    candidates = lab.candidates(lab.system(*two, [lab.server("s", 50.0)], classes=classes))
    assert candidates.demand_rps.tolist() == [18.0]
    # 0.9 of 2 and of 5 requests/s a replica.
    assert [row[1] for row in rows(candidates)] == [10, 4]


@pytest.mark.parametrize(("rate_rps", "demand_rps"), [(50.0, 53.0), (2.0, 21.0)])
def test_in_the_loop_demand_is_the_greater_of_both_and_backlog_adds(
    lab: Any, two: Any, rate_rps: float, demand_rps: float
) -> None:
    server = lab.server("s", rate_rps, backlog_rps=3.0)
    system = lab.system(*two, [server], classes=lab.classes("m", tps=1800.0))
    assert lab.candidates(system, DemandRule.LOOP).demand_rps.tolist() == [demand_rps]


def test_a_tps_target_asks_nothing_of_a_server_without_load(lab: Any, two: Any) -> None:
    system = lab.system(*two, [lab.server("s", 0.0)], classes=lab.classes("m", tps=1800.0))
    for rule in DemandRule:
        assert rows(lab.candidates(system, rule)) == [("none", 0, 0, 0.0)]


def test_in_the_loop_arrivals_of_unknown_length_are_not_no_load(lab: Any, two: Any) -> None:
    server = lab.server("s", 3.0, output_tokens=0.0, runs=("slow", 2))
    system = lab.system(*two, [server])
    assert rows(lab.candidates(system)) == [("none", 0, 0, 0.0)]
    held = lab.candidates(system, DemandRule.LOOP)
    assert len(held) == 0
    assert [str(entry.reason) for entry in held.unserved] == ["invalid-data"]


def test_without_load_the_minimum_is_kept_at_the_latencies_of_one_request(lab: Any) -> None:
    perf = PerfParameters("m", "a", (20.0, 1.0, 100.0, 0.5), max_batch=24, at_tokens=512)
    system = lab.system([lab.accelerator("a", 7.0)], [perf], [lab.server("s", 0.0, min_replicas=3)])
    from controlloop.queueing.models import queue_models

    candidates = build_candidates(system, queue_models().create)
    assert rows(candidates) == [("a", 3, 24, 21.0)]
    itl, ttft = candidates.predict(np.array([0]), candidates.replicas)
    assert_allclose(itl, [21.0])
    assert_allclose(ttft, [100.5])


def test_targets_do_not_matter_without_load(lab: Any, two: Any) -> None:
    system = lab.system(
        *two, [lab.server("s", 0.0, min_replicas=1)], classes=lab.classes("m", itl_ms=1.0)
    )
    assert [row[0] for row in rows(lab.candidates(system))] == ["slow", "fast"]


def test_minimum_replicas_count_under_load(lab: Any, two: Any) -> None:
    candidates = lab.candidates(lab.system(*two, [lab.server("s", 1.0, min_replicas=4)]))
    assert rows(candidates) == [("slow", 4, 8, 12.0), ("fast", 4, 8, 40.0)]


def test_an_entry_without_targets_is_sized_at_the_greatest_rate(lab: Any) -> None:
    from controlloop.queueing.models import analyze, queue_models, replicas

    perf = PerfParameters("m", "a", (20.0, 1.0, 100.0, 0.05), max_batch=24, at_tokens=512)
    system = lab.system(
        [lab.accelerator("a")],
        [perf],
        [lab.server("s", 9.0, output_tokens=512.0)],
        classes=lab.classes("m"),
    )
    candidates = build_candidates(system, queue_models().create)
    pair = replicas(24, 50.0, 512.0, [[20.0, 1.0, 100.0, 0.05]])
    greatest = queue_models().create("state-dependent").rate_range_rps(pair)[1]
    assert_allclose(candidates.rate_rps, analyze(pair, greatest).throughput_rps)


@pytest.mark.parametrize(
    ("current", "cost", "values"),
    [
        (("slow", 5), 15.0, [0.0, 0.1 * (15 + 20) + 5]),
        (("slow", 7), 21.0, [15 - 21, 0.1 * (21 + 20) - 1]),
        (("fast", 1), 10.0, [0.1 * (10 + 15) + 5, 20 - 10]),
        (("", 0), 0.0, [0.1 * 15 + 15, 0.1 * 20 + 20]),
        # What the data says it costs counts, whatever it should be; so does a name not known.
        (("slow", 7), 500.0, [15 - 500, 0.1 * (500 + 20) - 480]),
        (("gone", 5), 15.0, [0.1 * (15 + 15) + 0, 0.1 * (15 + 20) + 5]),
    ],
)
def test_value_is_the_penalty_of_the_transition(
    lab: Any, two: Any, current: tuple[str, int], cost: float, values: list[float]
) -> None:
    server = lab.server("s", 9.0, runs=current, cost=cost)
    assert_allclose(lab.candidates(lab.system(*two, [server])).value, values)


def test_the_zero_allocation_has_a_value_too(lab: Any, two: Any) -> None:
    servers = [
        lab.server("gives-up", 0.0, runs=("slow", 2), cost=6.0),
        lab.server("has-none", 0.0),
        lab.server("unknown", 0.0, runs=("gone", 1), cost=6.0),
    ]
    candidates = lab.candidates(lab.system(*two, servers))
    assert candidates.accelerator.tolist() == [-1, -1, -1]
    assert_allclose(candidates.value, [0.6 - 6, 0.0, 0.6 - 6])


def test_keep_accelerator_leaves_the_one_that_runs(lab: Any, two: Any) -> None:
    servers = [
        lab.server("free", 9.0, keep_accelerator=True),
        lab.server("kept", 9.0, keep_accelerator=True, runs=("fast", 1)),
        lab.server("same-load", 9.0, runs=("fast", 1)),
    ]
    candidates = lab.candidates(lab.system(*two, servers))
    assert candidates.start.tolist() == [0, 2, 3, 5]
    assert candidates.accelerator.tolist() == [0, 1, 1, 0, 1]
    assert len(candidates.infeasible.server) == 0


def test_constraints_bound_accelerator_batch_and_replicas(lab: Any, two: Any) -> None:
    names = ("fixed", "least", "most", "none")
    candidates = lab.candidates(
        lab.system(*two, [lab.server(name, 9.0) for name in names]),
        fixed=ServerConstraint(accelerator="fast", max_batch=3),
        least=ServerConstraint(min_replicas=7),
        most=ServerConstraint(max_replicas=3),
    )
    found = rows(candidates)
    assert found[:1] == [("fast", 2, 3, 20.0)]
    assert found[1:3] == [("slow", 7, 8, 21.0), ("fast", 7, 8, 70.0)]
    # Only "fast" serves the load whole with three replicas.
    assert found[3:4] == [("fast", 2, 8, 20.0)]
    assert found[4:] == [("slow", 5, 8, 15.0), ("fast", 2, 8, 20.0)]


def test_where_nothing_within_the_maximum_is_enough_the_most_is_served(lab: Any, two: Any) -> None:
    candidates = lab.candidates(
        lab.system(*two, [lab.server("s", 100.0)]), s=ServerConstraint(max_replicas=3)
    )
    assert rows(candidates) == [("fast", 3, 8, 30.0)]
    assert candidates.needed_replicas.tolist() == [20]


def test_a_floor_stands_above_a_ceiling(lab: Any, two: Any) -> None:
    candidates = lab.candidates(
        lab.system(*two, [lab.server("s", 1.0)]),
        s=ServerConstraint(min_replicas=5, max_replicas=2),
    )
    assert [row[1] for row in rows(candidates)] == [5, 5]


def test_no_servers_no_accelerators_no_data(lab: Any, two: Any) -> None:
    assert len(lab.candidates(lab.system(*two, []))) == 0
    alone = lab.candidates(lab.system([], [], [lab.server("s")], classes=lab.classes("m")))
    assert len(alone) == 0
    assert [entry.server for entry in alone.unserved] == ["s"]


def test_numbers_of_any_size_stay_countable(lab: Any, two: Any) -> None:
    candidates = lab.candidates(
        lab.system(
            [lab.accelerator("slow", 3.0, cards=10**9)],
            [lab.perf("m", "slow", 1e-9, accelerators_per_replica=10**3)],
            [lab.server("s", 1e12)],
        )
    )
    assert candidates.cards.tolist() == [10**15]
    assert np.all(candidates.needed_replicas > candidates.replicas)


def test_priorities_come_from_classes(lab: Any, two: Any) -> None:
    classes = [ServiceClass("class1", 7, (Target("m"),)), ServiceClass("class2", 3, (Target("m"),))]
    servers = [lab.server("a"), lab.server("b", priority=2)]
    system = lab.system(*two, servers, classes=classes)
    assert lab.candidates(system).priority.tolist() == [7, 3]
