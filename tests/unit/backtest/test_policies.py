from __future__ import annotations

import math

import pytest

from controlloop.backtest.case import Case, PlantKind
from controlloop.backtest.jobs import Job, perform, perform_run
from controlloop.backtest.metrics import measure
from controlloop.backtest.policies import named_policies, policies
from controlloop.backtest.run import Run
from controlloop.errors import InputError

pytestmark = pytest.mark.slow

STEP = Case("step", hours=0.25, startup_s=30.0, plant=PlantKind.FLUID)


def run(policy: str, knob: float) -> Run:
    return perform_run(Job(STEP, policy, knob))


def test_all_are_known_by_name_and_asked_for_once() -> None:
    names = [one.name for one in policies()]
    assert names[:2] == ["loop", "loop-tuned"]
    assert {"hpa-concurrency", "hpa-queue", "keda-rate", "kpa"} < set(names)
    assert [one.name for one in named_policies([])] == names
    assert [one.name for one in named_policies(["kpa", "loop", "kpa"])] == ["kpa", "loop"]


def test_this_loop_takes_other_settings() -> None:
    (policy,) = named_policies(["loop:forecaster.headroom=0.3,cycle.period_s=30"])
    assert policy.fixed == 0.3
    job = Job(STEP, policy.name, 0.3)
    assert perform_run(job).outlooks[0].time == 30.0
    assert run("loop", 0.0).outlooks[0].time == 15.0


def test_its_headroom_is_its_knob_and_buys_attainment() -> None:
    (tuned,) = named_policies(["loop-tuned"])
    assert tuned.is_tuned
    plain, standing_by = (measure(run("loop-tuned", knob)) for knob in (0.0, tuned.knobs[-1]))
    assert standing_by.attainment > plain.attainment
    assert standing_by.cost > plain.cost


def test_every_bad_name_and_setting_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        named_policies(["vpa", "loop:forecaster.headrom=1", "loop"])
    first, second = (str(one) for one in caught.value.problems)
    assert first.startswith("--policy: must be one of loop, loop-tuned, hpa-concurrency")
    assert first.endswith("got vpa")
    assert "headrom" in second


@pytest.mark.parametrize("policy", policies(), ids=lambda one: one.name)
def test_each_serves_a_step_and_is_reproducible(policy: object) -> None:
    name, knobs = policy.name, policy.knobs  # type: ignore[attr-defined]
    job = Job(STEP, name, knobs[-1])
    row = perform(job)
    assert row == perform(job)
    assert row["failedCycles"] == 0
    assert row["withinBoth"] > 0.3
    assert 0 < row["cost"] < 60


def test_one_who_knows_the_future_is_ready_when_it_comes() -> None:
    knowing, reacting = measure(run("clairvoyant", 1.1)), measure(run("keda-rate", 1.0))
    assert knowing.attainment > 0.99 > reacting.attainment
    assert knowing.most_changes <= math.floor(6 * (600 + 900) / 3600)


def test_a_fixed_fleet_never_changes_after_its_start() -> None:
    moves = run("static-peak", 1.0).moves
    assert {one.time for one in moves} == {0.0}
