"""Every reason for which a server is not served, and its words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.candidates import Fault
from controlloop.api.decision import ServerConstraint
from controlloop.api.solution import Unserved, UnservedReason
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
from controlloop.optimizer import optimize


def the_reason(lab: Any, system: System) -> tuple[UnservedReason, str]:
    """Why server "s" is not served; everybody else is."""
    solution = lab.solve(system)
    assert [entry.server for entry in solution.unserved] == ["s"]
    assert "s" not in solution.allocations
    assert "other" in solution.allocations
    return solution.unserved[0].reason, solution.unserved[0].detail


def system_with(lab: Any, server: Server, *perf: Any, **more: Any) -> System:
    """A system in which "other" is served on "good" whatever becomes of `server`."""
    return lab.system(  # type: ignore[no-any-return]
        [lab.accelerator("good"), lab.accelerator("bad"), lab.accelerator("worse")],
        [lab.perf("good", "good", 5.0), *perf],
        [server, lab.server("other", model="good")],
        **{"classes": lab.classes("good", "m", itl_ms=100.0, ttft_ms=200.0)} | more,
    )


def test_a_class_that_is_not_there(lab: Any) -> None:
    server = lab.server("s", priority=9)
    reason, detail = the_reason(lab, system_with(lab, server, lab.perf("m", "bad")))
    assert reason is UnservedReason.UNKNOWN_CLASS
    assert detail == 'no service class "class9"'


def test_a_model_without_a_target_in_its_class(lab: Any) -> None:
    system = system_with(
        lab, lab.server("s"), lab.perf("m", "bad"), classes=lab.classes("good", itl_ms=100.0)
    )
    reason, detail = the_reason(lab, system)
    assert reason is UnservedReason.NO_TARGET
    assert detail == 'class "class1" has no target for model "m"'


def test_a_model_without_performance_data(lab: Any) -> None:
    reason, detail = the_reason(lab, system_with(lab, lab.server("s")))
    assert reason is UnservedReason.UNKNOWN_MODEL
    assert detail == 'no performance data of model "m"'


def test_data_only_of_accelerators_that_do_not_exist(lab: Any) -> None:
    perf = (lab.perf("m", "nowhere"), lab.perf("m", "gone"))
    reason, detail = the_reason(lab, system_with(lab, lab.server("s"), *perf))
    assert reason is UnservedReason.NO_PERF_DATA
    assert detail == (
        'performance data of model "m" is of "nowhere", "gone" alone, not in the accelerators'
    )


def test_no_accelerator_at_all(lab: Any) -> None:
    system = lab.system([], [lab.perf("m", "A")], [lab.server("s")])
    (short,) = lab.solve(system).unserved
    assert short == Unserved("s", UnservedReason.NO_PERF_DATA, "there is no accelerator")


def test_the_accelerator_it_keeps_has_no_performance_data(lab: Any) -> None:
    server = lab.server("s", runs=("worse", 2), keep_accelerator=True)
    reason, detail = the_reason(lab, system_with(lab, server, lab.perf("m", "bad")))
    assert reason is UnservedReason.NO_PERF_DATA
    assert detail == 'no performance data of model "m" on worse'


def test_no_load_is_no_excuse_for_an_accelerator_without_data(lab: Any) -> None:
    server = lab.server("s", 0.0, runs=("worse", 2), keep_accelerator=True)
    reason, _ = the_reason(lab, system_with(lab, server, lab.perf("m", "bad")))
    assert reason is UnservedReason.NO_PERF_DATA


def test_the_accelerator_it_keeps_is_not_in_the_data(lab: Any) -> None:
    server = lab.server("s", runs=("gone", 2), keep_accelerator=True)
    reason, detail = the_reason(lab, system_with(lab, server, lab.perf("m", "bad")))
    assert reason is UnservedReason.NO_PERF_DATA
    assert detail == 'it stays on accelerator "gone", which is not in the data'


def test_a_target_below_what_is_possible_names_the_nearest_miss(lab: Any) -> None:
    perf = [lab.perf("m", "bad", latency_ms=999.0), lab.perf("m", "worse", latency_ms=312.0)]
    reason, detail = the_reason(lab, system_with(lab, lab.server("s"), *perf))
    assert reason is UnservedReason.TARGET_UNREACHABLE
    assert detail == (
        "TTFT 200 ms is below the least possible 312 ms on worse"
        " (the nearest of 2 accelerators; no performance data on 1 more)"
    )


def test_an_itl_target_below_what_is_possible(lab: Any) -> None:
    perf = lab.perf("m", "bad", latency_ms=150.0)
    reason, detail = the_reason(lab, system_with(lab, lab.server("s"), perf))
    assert reason is UnservedReason.TARGET_UNREACHABLE
    assert detail.startswith("ITL 100 ms is below the least possible 150 ms on bad")


def test_a_search_that_does_not_end(lab: Any) -> None:
    perf = lab.perf("m", "bad", latency_ms=13.0)
    reason, detail = the_reason(lab, system_with(lab, lab.server("s"), perf))
    assert reason is UnservedReason.NOT_CONVERGED
    assert "bad" in detail


@pytest.mark.parametrize(
    ("perf", "words"),
    [
        ({"queue_model": "crystal-ball"}, 'm on bad: unknown queue model "crystal-ball"'),
        ({"parameters": (1.0,), "parameter_names": ("rate_rps",)}, "takes rate_rps, latency_ms"),
        ({"parameters": (1.0, 2.0, 3.0)}, "got 3 numbers as rate_rps, latency_ms"),
        ({"parameters": (1.0, 2.0), "parameter_names": ("a", "b")}, "got 2 numbers as a, b"),
        ({"max_batch": 0}, "maxBatchSize must be >= 1, got 0"),
        ({"at_tokens": -1}, "atTokens must be >= 1, got -1"),
        ({"accelerators_per_replica": 0}, "accCount must be >= 1, got 0"),
        ({"rate_rps": 0.0}, "rate_rps 0"),
        ({"rate_rps": math.nan}, "m on bad: rate_rps must be a number, got nan"),
    ],
)
def test_performance_data_that_cannot_be_used(lab: Any, perf: dict[str, Any], words: str) -> None:
    system = system_with(lab, lab.server("s"), lab.perf("m", "bad", **perf))
    reason, detail = the_reason(lab, system)
    assert reason is UnservedReason.INVALID_DATA
    assert words in detail


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(-1.0, 1.0, 1.0), "arrival rate must be a number >= 0, got -1.0"),
        (Load(math.nan, 1.0, 1.0), "arrival rate must be a number >= 0, got nan"),
        (Load(1.0, math.inf, 1.0), "input tokens must be a number >= 0, got inf"),
        (Load(1.0, 1.0, -2.0), "output tokens must be a number >= 0, got -2.0"),
    ],
)
def test_a_load_that_is_none(lab: Any, load: Load, words: str) -> None:
    server = lab.server("s", runs=("bad", 3))
    server = replace(server, current=replace(server.current, load=load))
    reason, detail = the_reason(lab, system_with(lab, server, lab.perf("m", "bad")))
    assert reason is UnservedReason.INVALID_DATA
    assert detail == words


@pytest.mark.parametrize(
    ("load", "max_batch", "cause"),
    [
        (Load(1.0, 0.0, 1.0), 8, "a request without input and with at most one output token"),
        (Load(1.0, 50.0, 1.0), 10**9, "a batch is at most 4194304"),
    ],
)
def test_what_no_queue_model_can_work_with(load: Load, max_batch: int, cause: str) -> None:
    perf = PerfParameters("m", "A", (10.0, 1.0, 5.0, 0.01), max_batch, 100)
    server = Server("s", "m", "c", current=Allocation("A", 2, load=load))
    classes = (ServiceClass("c", 1, (Target("m", itl_ms=30.0),)),)
    system = System((Accelerator("A", "A"),), {"A": 9}, (perf,), classes, (server,))
    (left,) = optimize(system).unserved
    assert left.reason is UnservedReason.INVALID_DATA
    assert f": {cause}" in left.detail


def test_a_target_that_is_no_number(lab: Any) -> None:
    targets = (Target("good", 100.0), Target("m", itl_ms=math.nan))
    classes = [ServiceClass("class1", 1, targets)]
    system = system_with(lab, lab.server("s"), lab.perf("m", "bad"), classes=classes)
    reason, detail = the_reason(lab, system)
    assert reason is UnservedReason.INVALID_DATA
    assert detail == "ITL target must be a number >= 0, got nan"


def test_two_servers_of_one_name(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("good")],
        [lab.perf("m", "good")],
        [lab.server("s", 1.0), lab.server("other"), lab.server("s", 5.0)],
    )
    reason, detail = the_reason(lab, system)
    assert reason is UnservedReason.INVALID_DATA
    assert detail == "2 servers have this name"


def test_cards_that_do_not_suffice(lab: Any) -> None:
    system = system_with(
        lab,
        lab.server("s", 7.0),
        lab.perf("m", "bad", 1.0, accelerators_per_replica=2),
        lab.perf("m", "worse", 0.5),
        capacity={"good": 5, "bad": 13, "worse": 3},
    )
    reason, detail = the_reason(lab, system)
    assert reason is UnservedReason.NO_CAPACITY
    assert detail == (
        "needs 14 cards for 7 replicas of bad, 13 of type bad left;"
        " the other accelerator does not fit either"
    )


def test_a_maximum_that_does_not_suffice(lab: Any) -> None:
    system = system_with(lab, lab.server("s", 7.0), lab.perf("m", "bad", 1.0))
    solution = lab.plan(system, s=ServerConstraint(max_replicas=4))
    (entry,) = solution.unserved
    assert entry.reason is UnservedReason.AT_MAXIMUM
    assert entry.detail == "needs 7 replicas of bad, at most 4 allowed"
    assert solution.allocations["s"].replicas == 4


def test_a_maximum_of_none(lab: Any) -> None:
    system = system_with(lab, lab.server("s", 7.0), lab.perf("m", "bad", 1.0))
    solution = lab.plan(system, s=ServerConstraint(max_replicas=0))
    (entry,) = solution.unserved
    assert entry.reason is UnservedReason.AT_MAXIMUM
    assert entry.detail == "needs 7 replicas of any accelerator, none allowed"
    assert solution.allocations["s"].replicas == 0


def test_pairs_that_are_no_candidates_keep_their_numbers(lab: Any) -> None:
    perf = [lab.perf("m", "good", 1.0), lab.perf("m", "bad", latency_ms=300.0)]
    candidates = lab.candidates(
        system_with(lab, lab.server("s", 9.0), *perf), s=ServerConstraint(max_replicas=20)
    )
    infeasible = candidates.infeasible
    at = candidates.servers.index("s")
    mine = [
        (candidates.accelerators[a], Fault(f), t, floor)
        for s, a, f, t, floor in zip(
            infeasible.server,
            infeasible.accelerator,
            infeasible.fault,
            infeasible.target,
            infeasible.floor,
            strict=True,
        )
        if s == at
    ]
    assert mine[0] == ("bad", Fault.TTFT_UNREACHABLE, 200.0, 300.0)
    assert mine[1][:2] == ("worse", Fault.NO_PERF_DATA)
