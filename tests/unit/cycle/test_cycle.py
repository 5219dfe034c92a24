from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from controlloop.api.decision import Decisions, Forecast, Outcome, Plan, Problem, Situation
from controlloop.api.explanation import Explanation
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present
from controlloop.api.report import Stage
from controlloop.api.report_document import report_document
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import (
    Accelerator,
    Allocation,
    PerfParameters,
    ServiceClass,
    System,
    Target,
)
from controlloop.clock import Deadline, ManualClock
from controlloop.cycle import Cycle, Parts
from controlloop.errors import ClusterError
from controlloop.forecast.last_value import LastValueForecaster
from controlloop.optimizer.planner import Planner
from controlloop.protocols import Explainer
from controlloop.stability.bounds import Bounds, BoundsPolicy
from controlloop.tuner.configured import ConfiguredEstimator

pytestmark = pytest.mark.slow

CATALOG = System(
    accelerators=(Accelerator("A100", "A100", 1, 40.0),),
    capacity={"A100": 16},
    perf=(PerfParameters("m", "A100", (10.0, 0.1, 5.0, 0.01), 32, 512),),
    classes=(ServiceClass("Premium", 1, (Target("m", 40.0, 1000.0),)),),
)
KNOWN = Signals(
    arrival_rate_rps=Present(2.0), input_tokens=Present(100.0), output_tokens=Present(200.0)
)

# Those of a cycle that has nobody to explain or to score.
STAGES = [stage for stage in Stage if stage not in (Stage.EXPLAIN, Stage.SHADOW)]


def a_server(name: str, signals: Signals = KNOWN, **changes: Any) -> ServerObservation:
    workload = Workload(WorkloadRef("ns", name), name, "m", "Premium", "A100", 32, replicas=4)
    return ServerObservation(replace(workload, **changes), signals)


@dataclass
class Bench:
    """Simple parts that do as told and remember what they were asked."""

    servers: tuple[ServerObservation, ...] = ()
    replicas: int = 6
    faults: dict[Stage, Exception] = field(default_factory=dict)
    problem: str | None = None
    problems: list[Problem] = field(default_factory=list)
    applied: list[Plan] = field(default_factory=list)

    def load(self) -> System:
        self._fail(Stage.DATA)
        return CATALOG

    def observe(self, now: float, deadline: Deadline) -> Observation:
        self._fail(Stage.OBSERVE)
        return Observation(now, self.servers)

    def solve(self, problem: Problem) -> Solution:
        self._fail(Stage.OPTIMIZE)
        self.problems.append(problem)
        found = {
            server.name: Allocation("A100", self.replicas, 32, 1.0, 20.0, 300.0)
            for server in problem.system.servers
        }
        return Solution(found, (), SolveStatus.FEASIBLE, "bench", 0.0)

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:
        self._fail(Stage.PLAN)
        return Plan()

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:
        self._fail(Stage.APPLY)
        self.applied.append(plan)
        return Outcome()

    def _fail(self, stage: Stage) -> None:
        if stage in self.faults:
            raise self.faults[stage]

    def cycle(
        self, explainer: Explainer | None = None, clock: ManualClock | None = None
    ) -> tuple[Cycle, Deadline]:
        clock = clock or ManualClock()
        parts = Parts(
            self, self, ConfiguredEstimator(), LastValueForecaster(),
            BoundsPolicy(Bounds(down_window_s=0.0)), self, self, explainer,
        )  # fmt: skip
        return Cycle(parts, clock, drain_time_s=100.0), Deadline(clock, 45.0)


def test_every_stage_runs_once_and_in_order() -> None:
    bench = Bench((a_server("a"), a_server("b")))
    cycle, deadline = bench.cycle()
    report = cycle.run_once(60.0, deadline)
    assert report.succeeded
    assert [each.stage for each in report.stages] == STAGES
    assert report.decisions is not None
    assert [each.desired.replicas for each in report.decisions.decisions] == [6, 6]
    assert len(bench.applied) == 1


@pytest.mark.parametrize(
    "stage", [Stage.DATA, Stage.OBSERVE, Stage.OPTIMIZE, Stage.PLAN, Stage.APPLY]
)
@pytest.mark.parametrize("error", [ClusterError("the API server is away"), KeyError("a defect")])
def test_a_failed_stage_ends_the_cycle_with_its_reason(stage: Stage, error: Exception) -> None:
    bench = Bench((a_server("a"),), faults={stage: error})
    cycle, deadline = bench.cycle()
    report = cycle.run_once(60.0, deadline)
    assert report.failure is not None
    assert (report.failure.stage, report.failure.error) == (stage, type(error).__name__)
    assert report.stages[-1].stage is stage
    assert bench.applied == []
    bench.faults.clear()
    assert cycle.run_once(120.0, deadline).succeeded


@pytest.mark.parametrize("after", range(len(STAGES)))
def test_asked_to_stop_it_finishes_the_stage_in_hand_and_begins_no_other(after: int) -> None:
    bench = Bench((a_server("a"),))
    cycle, deadline = bench.cycle()
    asked = iter(range(len(STAGES) + 1))
    stop: Callable[[], bool] = lambda: next(asked) >= after  # noqa: E731
    report = cycle.run_once(60.0, deadline, stop=stop)
    assert [each.stage for each in report.stages] == STAGES[:after]
    assert report.failure is not None
    assert report.failure.error == "StoppedError"
    assert bench.applied == []


def situation_of(server: ServerObservation) -> Situation:
    bench = Bench((server,))
    cycle, deadline = bench.cycle()
    report = cycle.run_once(60.0, deadline)
    assert report.decisions is not None
    (problem,) = bench.problems
    assert report.observation is not None
    return Situation(60.0, 0.0, problem.system, problem.holds, report.observation)


def reasons_of(server: ServerObservation) -> list[str]:
    return [str(hold.reason) for hold in situation_of(server).holds["a"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "other"}, "unknown-model"),
        ({"service_class": "Gold"}, "unknown-class"),
        ({"accelerator": "TPU"}, "unknown-accelerator"),
    ],
)
def test_what_the_data_does_not_know_keeps_its_server_and_says_what_is_known(
    changes: dict[str, Any], reason: str
) -> None:
    server = a_server("a", **changes)
    assert reasons_of(server)[0] == reason
    bench = Bench((server, a_server("b")))
    cycle, deadline = bench.cycle()
    report = cycle.run_once(60.0, deadline)
    assert report.decisions is not None
    kept, other = report.decisions.decisions
    assert (kept.action, kept.desired.replicas) == ("hold", 4)
    assert reason in kept.reason
    assert other.desired.replicas == 6


def test_no_load_is_never_assumed() -> None:
    unknown = replace(KNOWN, arrival_rate_rps=Missing("no series"))
    assert reasons_of(a_server("a", unknown)) == ["signal-missing"]
    lengthless = replace(KNOWN, output_tokens=Missing("no completions"))
    assert reasons_of(a_server("a", lengthless)) == ["signal-missing"]


def test_a_measured_rate_of_zero_is_a_load() -> None:
    idle = Signals(arrival_rate_rps=Present(0.0))
    situation = situation_of(a_server("a", idle))
    assert situation.holds["a"] == ()
    assert situation.system.servers[0].current.load.is_empty


def test_waiting_requests_add_the_rate_that_drains_them() -> None:
    server = a_server("a", replace(KNOWN, waiting=Present(50.0)))
    assert situation_of(server).system.servers[0].backlog_rps == pytest.approx(0.5)


def test_the_current_cost_counts_accelerators_per_replica() -> None:
    assert situation_of(a_server("a")).system.servers[0].current.cost_per_hour == 160.0


@dataclass
class SlowExplainer:
    """Explains by the real planner, takes its time, and fails when told to."""

    clock: ManualClock
    takes_s: float = 0.0
    fault: Exception | None = None
    asked: list[list[str]] = field(default_factory=list)

    def explain(
        self, problem: Problem, solution: Solution, servers: Collection[str]
    ) -> Mapping[str, Explanation]:
        self.asked.append(list(servers))
        self.clock.advance(self.takes_s)
        if self.fault is not None:
            raise self.fault
        return Planner().explain(problem, solution, servers)


def test_every_change_is_explained_and_what_stays_is_not() -> None:
    stays = a_server("stays", replicas=6)
    bench = Bench((a_server("grows"), stays, a_server("holds", Signals())))
    explainer = SlowExplainer(ManualClock())
    cycle, deadline = bench.cycle(explainer)
    report = cycle.run_once(60.0, deadline)
    assert explainer.asked == [["grows"]]
    assert [each.stage for each in report.stages] == [*STAGES, Stage.EXPLAIN]
    why = report.explanations["grows"]
    assert why.demand_rps == 2.0
    servers = {each["server"]: each for each in report_document(report)["servers"]}
    assert servers["grows"]["explanation"]["accelerators"][0]["accelerator"] == "A100"
    assert "explanation" not in servers["stays"]
    assert json.dumps(report_document(report), allow_nan=False)


def test_an_explanation_that_fails_is_a_note_and_undoes_nothing() -> None:
    bench = Bench((a_server("a"), a_server("b")))
    explainer = SlowExplainer(ManualClock(), fault=KeyError("a defect"))
    cycle, deadline = bench.cycle(explainer)
    report = cycle.run_once(60.0, deadline)
    assert report.succeeded
    assert report.outcome is not None
    assert report.explanations == {}
    assert report.notes[-1] == "2 changes are not explained: KeyError('a defect')"


def test_explanations_end_with_the_time_of_the_cycle() -> None:
    servers = tuple(a_server(f"s{at:03}") for at in range(450))
    clock = ManualClock()
    explainer = SlowExplainer(clock, takes_s=25.0)
    cycle, deadline = Bench(servers).cycle(explainer, clock)
    report = cycle.run_once(60.0, deadline)
    assert report.succeeded
    assert [len(each) for each in explainer.asked] == [200, 200]
    assert len(report.explanations) == 400
    assert report.notes[-1] == "50 changes are not explained: the cycle's time was up"


def test_who_is_asked_to_stop_explains_nothing_more() -> None:
    bench = Bench((a_server("a"),))
    explainer = SlowExplainer(ManualClock())
    cycle, deadline = bench.cycle(explainer)
    report = cycle.run_once(60.0, deadline, stop=lambda: bool(bench.applied))
    assert report.succeeded
    assert explainer.asked == []


def test_a_scorer_that_fails_is_a_note_and_undoes_nothing() -> None:
    class Broken:
        def score(self, situation: Situation, forecast: Forecast, decisions: Decisions) -> Any:
            raise ValueError("no")

    bench = Bench((a_server("a"),))
    cycle, deadline = bench.cycle()
    cycle._parts = replace(cycle._parts, scorer=Broken())
    report = cycle.run_once(60.0, deadline)
    assert report.succeeded
    assert report.shadow is None
    assert len(bench.applied) == 1
    assert "nothing is compared with what happened: ValueError('no')" in report.notes
