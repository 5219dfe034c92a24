"""A solver that fails, or says less than all, never ends in an exception nor goes unnoticed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from controlloop.api.candidates import Candidates
from controlloop.api.solution import Solution, SolveStatus, UnservedReason
from controlloop.api.system import DEFAULT_PARAMETER_NAMES, OptimizerOptions, System
from controlloop.errors import InputError
from controlloop.optimizer import optimize
from controlloop.optimizer.asked import answer_of
from controlloop.optimizer.explain import explain
from controlloop.optimizer.greedy import GreedySolver


class Theirs:
    """A third party's solver that does `act` with greedy's answer."""

    name = "theirs"

    def __init__(self, act: Callable[[Solution], Any]) -> None:
        self._act = act

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        found = GreedySolver().solve(candidates, capacity, options)
        answer: Solution = self._act(replace(found, solver=self.name))
        return answer


def fail(error: Exception) -> Callable[[Solution], Any]:
    def act(_: Solution) -> Any:
        raise error

    return act


def without_s(found: Solution) -> Solution:
    return replace(found, allocations={"t": found.allocations["t"]})


def with_stranger(found: Solution) -> Solution:
    return replace(found, allocations={**found.allocations, "x": found.allocations["t"]})


def changed_t(found: Solution, **what: Any) -> Solution:
    changed = {**found.allocations, "t": replace(found.allocations["t"], **what)}
    return replace(found, allocations=changed)


def on_nothing_known(found: Solution) -> Solution:
    return changed_t(found, accelerator="TPU")


def with_negative(found: Solution) -> Solution:
    return changed_t(found, replicas=-1)


@pytest.fixture
def system(lab: Any) -> System:
    made: System = lab.system(
        [lab.accelerator("A", 3.0)],
        [lab.perf("m", "A", 1.0)],
        [lab.server("s", 2.0), lab.server("t", 3.0)],
    )
    return made


def answer(lab: Any, system: System, act: Callable[[Solution], Any], **options: Any) -> Solution:
    candidates = lab.candidates(system)
    return answer_of(Theirs(act), candidates, system.capacity, OptimizerOptions(**options))


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (fail(ValueError("no\nreason")), "theirs failed (ValueError: no)"),
        (fail(KeyError()), "theirs failed (KeyError)"),
        (fail(MemoryError("x" * 1000)), f"theirs failed (MemoryError: {'x' * 200})"),
        (lambda _: None, "theirs answered with NoneType, not with a solution"),
        (lambda _: {"s": 1}, "theirs answered with dict, not with a solution"),
        (without_s, 'theirs says nothing of "s"'),
        (on_nothing_known, 'theirs puts "t" on "TPU", which there is not'),
        (
            lambda each: replace(each, objective=math.nan),
            "theirs answered with a total value of nan",
        ),
        (with_negative, 'theirs gives "t" numbers that are none'),
        (with_stranger, 'theirs answers for "x", which it was not asked about'),
    ],
)
def test_where_a_solver_gives_no_answer_greedy_does_and_says_so(
    lab: Any, system: System, act: Callable[[Solution], Any], why: str
) -> None:
    found = answer(lab, system, act)
    assert (found.asked, found.solver) == ("theirs", "greedy")
    assert found.message == f"{why}: this is the greedy solver's answer"
    greedy = GreedySolver().solve(lab.candidates(system), system.capacity, OptimizerOptions())
    assert found.allocations == greedy.allocations


@pytest.mark.parametrize("act", [optimize, lambda system: explain(system, "s")])
def test_numbers_that_are_none_are_refused_all_at_once(
    system: System, act: Callable[[System], object]
) -> None:
    options = OptimizerOptions(time_limit_s=math.nan, gap=-1.0, energy_price=math.inf)
    bad: Any = {"A": math.nan, "B": -5, "C": 1.5, "D": 4}
    with pytest.raises(InputError) as refusal:
        act(replace(system, capacity=bad, options=options))
    assert [each.path for each in refusal.value.problems] == [
        "capacity[A]",
        "capacity[B]",
        "capacity[C]",
        "timeLimit",
        "gap",
        "energyPrice",
    ]


def test_a_queue_model_that_raises_is_a_reason(
    lab: Any, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(*_: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(type(lab.queue), "size", size)
    found = lab.plain(system)
    assert {each.reason for each in found.unserved} == {UnservedReason.INVALID_DATA}
    assert found.unserved[0].detail == (
        'queue model "fixed-rate" failed (ZeroDivisionError: by zero)'
    )


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ((0.0, 1.0, 1.0, 1.0), "alpha_ms must be > 0, got 0"),
        ((-1.0, 1.0, 1.0, 1.0), "alpha_ms must be > 0, got -1"),
        ((1.0, -1.0, 1.0, 1.0), "beta_ms must be >= 0, got -1"),
        ((1.0, 1.0, math.nan, 1.0), "gamma_ms must be a number, got nan"),
        ((1.0, 1.0, 1.0, math.inf), "delta_ms must be a number, got inf"),
    ],
)
def test_parameters_that_cannot_be_are_named(
    lab: Any, system: System, parameters: tuple[float, ...], why: str
) -> None:
    perf = replace(
        system.perf[0],
        parameters=parameters,
        parameter_names=DEFAULT_PARAMETER_NAMES,
        queue_model="",
    )
    (one, _) = optimize(replace(system, perf=(perf,))).unserved
    assert (one.reason, one.detail) == (UnservedReason.INVALID_DATA, f"m on A: {why}")


def test_a_good_answer_is_left_as_it_is(lab: Any, system: System) -> None:
    found = answer(lab, system, lambda each: each)
    assert (found.asked, found.solver, found.message) == ("theirs", "theirs", "")


def test_an_answer_beyond_the_cards_is_told(lab: Any, system: System) -> None:
    class Blind(Theirs):
        def solve(self, candidates: Any, capacity: Any, options: Any) -> Solution:
            return super().solve(candidates, {"A": 1000}, options)

    candidates = lab.candidates(system)
    found = answer_of(Blind(lambda each: each), candidates, {"A": 4}, OptimizerOptions())
    assert found.message == "theirs takes 5 cards of type A, 4 are there"


def test_what_a_solver_does_not_say_itself_is_said(lab: Any, system: System) -> None:
    silent = answer(lab, system, lambda each: replace(each, solver="another"))
    assert silent.message == "theirs was asked for, this is the answer of another"
    failed = answer(lab, system, lambda each: replace(each, status=SolveStatus.FAILED))
    assert failed.message == "theirs says that it failed"
    own = answer(lab, system, lambda each: replace(each, solver="another", message="why"))
    assert (own.asked, own.solver, own.message) == ("theirs", "another", "why")


@pytest.mark.parametrize("flags", [{}, {"unlimited": True}])
def test_flags_that_the_solver_does_not_know_are_told(
    lab: Any, system: System, flags: dict[str, Any]
) -> None:
    found = lab.plain(replace(system, options=OptimizerOptions(heterogeneous=True, **flags)))
    assert "heterogeneous is without effect" in found.message
    found = lab.plain(replace(system, options=OptimizerOptions(use_cplex=True, **flags)))
    assert "useCplex is without effect" in found.message
    assert lab.plain(replace(system, options=OptimizerOptions(**flags))).message == ""
    exact = OptimizerOptions(milp_solver=True, heterogeneous=True)
    assert lab.plain(replace(system, options=exact)).message == ""


def test_in_the_loop_a_solver_that_fails_costs_no_cycle(
    lab: Any, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("their_solvers")
    module.Bad = lambda: Theirs(fail(ValueError("no")))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_solvers", module)
    bad = replace(system, options=OptimizerOptions(solver="their_solvers:Bad"))
    found = lab.plan(bad)
    assert {name: each.replicas for name, each in found.allocations.items()} == {"s": 2, "t": 3}
    assert (found.asked, found.solver) == ("theirs", "greedy")
    assert "theirs failed (ValueError: no)" in found.message
    running = tuple(lab.server(name, 4.0, runs=("A", 3), cost=9.0) for name in ("s", "t"))
    short = lab.plan(replace(bad, servers=running, capacity={"A": 5}))
    assert (short.asked, short.solver) == ("theirs", "greedy")
    assert short.message.startswith("cards are short")
    assert "theirs failed (ValueError: no)" in short.message
