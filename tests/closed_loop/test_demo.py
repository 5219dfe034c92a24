"""The production cycle on the simulated fleet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from controlloop.api.decision import Action
from controlloop.api.holds import HoldReason
from controlloop.composition.loop import demo_engine
from controlloop.settings.tree import Settings
from controlloop.simulator.demo import Demo, DemoOptions, DemoResult
from controlloop.simulator.fleet import read_fleet
from controlloop.simulator.sensor import SignalOutage
from controlloop.simulator.simulation import CycleRecord
from controlloop.units import SECONDS_PER_HOUR

pytestmark = pytest.mark.slow

# Midnight to noon in three hours.
HOURS, PACE = 12.0, 4.0
OUTAGE = SignalOutage(0.75 * SECONDS_PER_HOUR, 2.0 * SECONDS_PER_HOUR)


def run(options: DemoOptions, watch: Callable[[CycleRecord], None] = lambda _: None) -> DemoResult:
    return Demo(read_fleet(), options, demo_engine(Settings())).run(watch)


@pytest.fixture(scope="module")
def moments() -> list[CycleRecord]:
    return []


@pytest.fixture(scope="module")
def result(moments: list[CycleRecord]) -> DemoResult:
    return run(DemoOptions(hours=HOURS, pace=PACE), moments.append)


@pytest.fixture(scope="module")
def with_outage() -> DemoResult:
    return run(DemoOptions(hours=HOURS, pace=PACE, outages=(OUTAGE,)))


def test_every_cycle_succeeds(result: DemoResult) -> None:
    assert result.failures == ()


def test_nearly_all_requests_are_within_objectives_in_every_class(result: DemoResult) -> None:
    score = result.controlled.score

    assert score.overall.within_both > 0.99
    assert len(score.classes) == 3
    assert all(one.within_both > 0.98 for one in score.classes)


def test_it_costs_less_than_the_fleet_fixed_at_its_peak(result: DemoResult) -> None:
    assert result.controlled.score.cost < 0.8 * result.fixed.score.cost
    assert result.saving == pytest.approx(
        1 - result.controlled.score.cost / result.fixed.score.cost
    )
    assert result.fixed.score.overall.within_both > 0.99


def test_both_fleets_get_the_same_requests(result: DemoResult) -> None:
    assert np.array_equal(result.controlled.history.arrived, result.fixed.history.arrived)


def test_cards_are_never_short_at_any_time(result: DemoResult) -> None:
    for run_ in (result.controlled, result.fixed):
        capacity = [result.catalog.capacity[kind] for kind in run_.history.card_types]
        assert np.all(run_.history.cards <= capacity)


def test_what_is_decided_fits_together_on_the_cards(
    result: DemoResult, moments: list[CycleRecord]
) -> None:
    units = {(one.model, one.accelerator): one for one in result.catalog.perf}
    accelerators = {one.name: one for one in result.catalog.accelerators}
    models = {one.name: one.model for one in result.controlled.history.servers}
    assert len(moments) == result.options.cycles
    for moment in moments:
        assert moment.report.decisions is not None
        needed = dict.fromkeys(result.catalog.capacity, 0)
        for decision in moment.report.decisions.decisions:
            name = decision.desired.accelerator
            unit = units[models[decision.server], name].accelerators_per_replica
            accelerator = accelerators[name]
            cards = unit * accelerator.multiplicity * decision.desired.replicas
            needed[accelerator.type] += cards
        assert all(needed[kind] <= count for kind, count in result.catalog.capacity.items())


def test_every_change_has_its_reason_in_numbers(result: DemoResult) -> None:
    assert result.changes
    for change in result.changes:
        assert "req/min" in change.decision.reason
        assert "TTFT" in change.decision.reason


def test_equal_seeds_give_equal_days_and_others_do_not() -> None:
    one, again, other = (run(DemoOptions(hours=0.5, seed=seed)) for seed in (3, 3, 4))

    assert again.changes == one.changes
    assert again.controlled.score == one.controlled.score
    assert not np.array_equal(other.controlled.history.arrived, one.controlled.history.arrived)


def test_without_metrics_every_server_keeps_what_it_has(
    result: DemoResult, with_outage: DemoResult
) -> None:
    within = [one for one in result.changes if OUTAGE.covers("", one.time)]
    assert any(one.decision.action is Action.SCALE_DOWN for one in within)

    assert not [one for one in with_outage.changes if OUTAGE.covers("", one.time)]
    history = with_outage.controlled.history
    # Once what was on its way at the start has arrived, nothing moves until metrics are back.
    settled = (history.times > OUTAGE.start + 600) & (history.times < OUTAGE.end)
    assert np.all(history.ready[settled] == history.ready[settled][0])
    cycles = round((OUTAGE.end - OUTAGE.start) / with_outage.options.period_s)
    servers = len(history.servers)
    assert with_outage.holds[HoldReason.SIGNAL_MISSING] == cycles * servers


def test_when_metrics_are_back_control_goes_on(with_outage: DemoResult) -> None:
    after = [one for one in with_outage.changes if one.time >= OUTAGE.end]

    assert {one.decision.action for one in after} == {Action.SCALE_UP, Action.SCALE_DOWN}
    assert with_outage.failures == ()


def test_a_fleet_that_cannot_be_seen_at_all_never_shrinks() -> None:
    blind = run(DemoOptions(hours=1.0, outages=(SignalOutage(0.0, 1e9),)))

    assert blind.changes == ()
    fixed = blind.fixed.history.ready
    assert np.array_equal(blind.controlled.history.ready, fixed)


@pytest.mark.parametrize("seed", [2])
def test_a_whole_day(seed: int) -> None:
    day = run(DemoOptions(seed=seed, pace=PACE))

    assert day.failures == ()
    assert day.options.cycles == 360
    assert day.controlled.score.overall.within_both > 0.97
    assert day.saving > 0.2
    capacity = [day.catalog.capacity[kind] for kind in day.controlled.history.card_types]
    assert np.all(day.controlled.history.cards <= capacity)
