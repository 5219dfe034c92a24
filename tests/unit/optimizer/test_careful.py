"""Percentile objectives and confidence, from the data to the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlloop.api.convert import spec_from_solution, spec_from_system, system_from_spec
from controlloop.api.decision import Problem
from controlloop.api.reading import read
from controlloop.api.solution import UnservedReason
from controlloop.api.specs import SystemData
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Tail,
    Target,
)
from controlloop.optimizer import optimize
from controlloop.optimizer.explain import explain
from controlloop.optimizer.planner import Planner
from controlloop.protocols import QueueModel
from controlloop.queueing.models import queue_models
from controlloop.tuner.belief import Belief, Doubt, prior_of
from controlloop.tuner.checkpoint import key_of
from controlloop.tuner.pairs import Pairs
from controlloop.tuner.tuning import Tuning

SURE = tuple(tuple(0.0 for _ in range(4)) for _ in range(4))
UNSURE = tuple(tuple(0.04 if i == j else 0.0 for j in range(4)) for i in range(4))


def system(target: Target, covariance: tuple[tuple[float, ...], ...] = ()) -> System:
    return System(
        accelerators=(Accelerator("A", "A", cost_per_hour=10.0),),
        capacity={"A": 1000},
        perf=(
            PerfParameters("m", "A", (10.0, 0.3, 50.0, 0.01), 64, 512, log_covariance=covariance),
        ),
        classes=(ServiceClass("C", 1, (target,)),),
        servers=(Server("s", "m", "C", current=Allocation(load=Load(300.0, 512.0, 256.0))),),
        options=OptimizerOptions(),
    )


def test_a_percentile_takes_more_replicas_than_the_mean_and_is_predicted_beside_it() -> None:
    mean = optimize(system(Target("m", ttft_ms=400.0))).allocations["s"]
    tail = optimize(system(Target("m", ttft_ms=400.0, ttft_percentile=99.0))).allocations["s"]
    assert tail.replicas > mean.replicas
    assert mean.ttft_tail is None
    assert tail.itl_tail is None
    assert tail.ttft_tail is not None
    assert tail.ttft_tail.percentile == 99.0
    assert tail.ttft_ms < tail.ttft_tail.ms <= 400.0
    itl = optimize(system(Target("m", itl_ms=18.0, itl_percentile=99.9))).allocations["s"]
    assert itl.itl_tail is not None
    assert itl.itl_tail.percentile == 99.9
    assert itl.itl_ms < itl.itl_tail.ms <= 18.0


def test_the_answer_and_its_explanation_name_the_percentile() -> None:
    asked = system(Target("m", ttft_ms=400.0, ttft_percentile=95.0))
    answer = spec_from_solution(optimize(asked)).document()["allocations"]["s"]
    assert answer["ttftPercentile"]["percentile"] == 95
    assert answer["ttftAverage"] < answer["ttftPercentile"]["latency"] <= 400
    assert "itlPercentile" not in answer
    chosen = explain(asked, "s", shadow_prices=False).chosen
    assert chosen is not None
    assert isinstance(chosen.allocation.ttft_tail, Tail)
    none = system(Target("m", ttft_ms=20.0, ttft_percentile=95.0))
    (unserved,) = optimize(none).unserved
    assert unserved.reason is UnservedReason.TARGET_UNREACHABLE
    assert unserved.detail.startswith("TTFT p95 20 ms is below the least possible")


def test_a_percentile_of_a_model_of_means_is_a_reason_and_not_the_mean() -> None:
    class Means:
        def __init__(self) -> None:
            whole = queue_models().create("state-dependent")
            self.name, self.parameter_names = "means", whole.parameter_names
            self.rate_range_rps, self.analyze, self.size = (
                whole.rate_range_rps,
                whole.analyze,
                whole.size,
            )

    def model_of(_name: str) -> QueueModel:
        return Means()

    two = system(Target("m", ttft_ms=400.0, ttft_percentile=95.0))
    classes = (*two.classes, ServiceClass("D", 2, (Target("m", ttft_ms=400.0),)))
    other = replace(two.servers[0], name="t", service_class="D")
    two = replace(two, classes=classes, servers=(*two.servers, other))
    solution = optimize(two, model_of=model_of)
    (unserved,) = solution.unserved
    assert unserved.server == "s"
    assert unserved.reason is UnservedReason.NO_PERCENTILES
    assert "means only" in unserved.detail
    # Who asks for the mean alone is served.
    assert set(solution.allocations) == {"t"}


@pytest.mark.parametrize("percentile", [100.0, -1.0, float("nan")])
def test_a_percentile_that_is_none_is_named(percentile: float) -> None:
    (unserved,) = optimize(system(Target("m", ttft_ms=400.0, ttft_percentile=percentile))).unserved
    assert unserved.reason is UnservedReason.INVALID_DATA
    assert "TTFT percentile" in unserved.detail


def test_confidence_takes_more_replicas_where_parameters_are_unsure() -> None:
    target = Target("m", itl_ms=25.0, ttft_ms=400.0)

    def replicas(confidence: float, covariance: tuple[tuple[float, ...], ...]) -> int:
        options = OptimizerOptions(confidence=confidence)
        asked = replace(system(target, covariance), options=options)
        return optimize(asked).allocations["s"].replicas

    plain = replicas(0.0, UNSURE)
    assert replicas(0.9, ()) == replicas(0.9, SURE) == plain
    assert plain < replicas(0.8, UNSURE) < replicas(0.95, UNSURE)


def test_a_covariance_goes_with_the_names_of_its_parameters() -> None:
    """The same uncertainty of alpha alone, with the parameters given in another order."""
    target = Target("m", itl_ms=25.0)
    one = [[0.0] * 4 for _ in range(4)]
    one[0][0] = 0.04
    straight = system(target, tuple(map(tuple, one)))
    perf = straight.perf[0]
    backwards = replace(
        perf,
        parameters=perf.parameters[::-1],
        parameter_names=perf.parameter_names[::-1],
        log_covariance=tuple(row[::-1] for row in perf.log_covariance[::-1]),
    )
    options = OptimizerOptions(confidence=0.9)
    found = [
        optimize(replace(straight, perf=(each,), options=options)).allocations["s"].replicas
        for each in (perf, backwards, replace(perf, log_covariance=()))
    ]
    assert found[0] == found[1] > found[2]
    wrong = replace(perf, log_covariance=((1.0,),))
    (unserved,) = optimize(replace(straight, perf=(wrong,), options=options)).unserved
    assert "logCovariance" in unserved.detail


def test_the_fields_are_read_whatever_their_case_and_refused_where_they_make_no_sense() -> None:
    whole = replace(
        system(Target("m", ttft_ms=400.0, ttft_percentile=95.0, itl_percentile=99.0), UNSURE),
        options=OptimizerOptions(confidence=0.9),
    )
    document = spec_from_system(whole).document()
    text = str(document)
    assert "slo-ttft-percentile" in text
    assert "logCovariance" in text
    assert system_from_spec(read(SystemData, _upper(document))) == whole


def _upper(value: object) -> object:
    if isinstance(value, dict):
        return {key.upper(): _upper(each) for key, each in value.items()}
    return [_upper(each) for each in value] if isinstance(value, list) else value


def test_the_loop_plans_with_the_uncertainty_of_what_was_learned_and_with_no_other() -> None:
    bounded = system(Target("m", itl_ms=25.0, ttft_ms=400.0))
    pairs = Pairs(queue_models(), Tuning())
    (perf,) = bounded.perf
    belief = replace(
        Belief.of(prior_of(perf, Doubt())),
        covariance=0.04 * np.eye(4),
        trusted=np.log([10, 0.3, 50, 0.01]),
    )
    pairs.take_up([perf], {key_of(perf): belief})
    learned = pairs.estimates(apply=True)[("m", "A")][0]
    assert np.asarray(learned.log_covariance) == pytest.approx(0.04 * np.eye(4))
    configured = pairs.estimates(apply=False)[("m", "A")][0]
    assert configured.log_covariance == ()

    def replicas(confidence: float, one: PerfParameters) -> int:
        problem = Problem(replace(bounded, perf=(one,)), {}, {})
        return Planner(confidence=confidence).solve(problem).allocations["s"].replicas

    assert replicas(0.9, learned) > replicas(0.0, learned) == replicas(0.9, configured)
