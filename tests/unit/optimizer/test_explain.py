"""Why a server got what it got, on systems small enough to know why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.explanation import Explanation, Limit, Option, Standing
from controlloop.api.explanation_document import explanation_document
from controlloop.api.system import Objective, Power, SaturationPolicy, Server, System
from controlloop.errors import InputError
from controlloop.optimizer.explain import explain
from controlloop.optimizer.planner import Planner


def option(explanation: Explanation, accelerator: str) -> Option:
    return next(each for each in explanation.options if each.accelerator == accelerator)


def values(explanation: Explanation) -> dict[str, float]:
    found = {}
    for each in explanation.options:
        if each.candidate is not None:
            found[each.accelerator] = each.candidate.value
    return found


@pytest.fixture
def two(lab: Any) -> System:
    """`small` serves 2 requests/s for 1 cent, `big` 10 for 8; three cards of `small`."""
    system: System = lab.system(
        [lab.accelerator("small", 1.0), lab.accelerator("big", 8.0), lab.accelerator("odd", 1.0)],
        [
            lab.perf("m", "small", rate_rps=2.0),
            lab.perf("m", "big", rate_rps=10.0),
            lab.perf("m", "odd", latency_ms=200.0),
        ],
        [lab.server("first", 4.0, priority=1), lab.server("second", 6.0, priority=2)],
        capacity={"small": 3, "big": 5},
    )
    return system


def ask(lab: Any, system: System, server: str, **more: Any) -> Explanation:
    return explain(system, server, model_of=lab.model_of, **more)


def test_every_accelerator_has_its_numbers_or_its_reason(lab: Any, two: System) -> None:
    found = ask(lab, two, "first")
    assert [(each.accelerator, each.standing) for each in found.options] == [
        ("small", Standing.CHOSEN),
        ("big", Standing.FEASIBLE),
        ("odd", Standing.INFEASIBLE),
    ]
    assert "ITL 100 ms is below the least possible 200 ms on odd" in option(found, "odd").reason
    small = option(found, "small").candidate
    assert small is not None
    assert (small.rate_rps, small.cards, small.allocation.replicas) == (2.0, 2, 2)
    assert small.allocation.cost_per_hour == 2.0
    assert small.value == pytest.approx(2.2)
    assert found.allocation == small.allocation
    assert found.demand_rps == 4.0
    assert found.demand_from == "arrivals"
    assert found.priority == 1


def test_the_next_best_is_told_with_what_it_would_cost_more(lab: Any, two: System) -> None:
    found = ask(lab, two, "first")
    assert found.chosen is not None
    assert found.next_best is not None
    assert found.next_best.allocation.accelerator == "big"
    document = explanation_document(found)
    assert document["nextBest"] == {
        "accelerator": "big",
        "extraValue": pytest.approx(1.1 * (8.0 - 2.0)),
        "extraCost": 6.0,
    }


def test_cards_of_a_higher_priority_are_a_limit_of_priority(lab: Any, two: System) -> None:
    found = ask(lab, two, "second")
    small = option(found, "small")
    assert small.standing is Standing.NO_CAPACITY
    assert "needs 3 cards of type small, 1 of 3 are left for it" in small.reason
    assert "of higher priority, first has 2" in small.reason
    (binding,) = found.bindings
    assert (binding.limit, binding.accelerator) == (Limit.PRIORITY, "small")
    assert binding.saving == pytest.approx(1.1 * (8.0 - 3.0))


def test_cards_of_a_peer_or_that_are_not_there_are_a_limit_of_capacity(
    lab: Any, two: System
) -> None:
    peers = (lab.server("first", 4.0, priority=2), lab.server("second", 6.0, priority=2))
    loser = ask(lab, replace(two, servers=peers), "second")
    assert [each.limit for each in loser.bindings] == [Limit.CAPACITY]
    assert "of equal or lower priority, first has 2" in loser.bindings[0].detail
    alone = replace(two, servers=(lab.server("only", 9.0),))
    (binding,) = ask(lab, alone, "only").bindings
    assert (binding.limit, binding.accelerator) == (Limit.CAPACITY, "small")
    assert "needs 5 cards of type small, 3 of 3 are left" in binding.detail


def test_where_capacity_does_not_count_nothing_binds(lab: Any, two: System) -> None:
    unlimited = replace(two, options=replace(two.options, unlimited=True))
    found = ask(lab, unlimited, "second")
    assert option(found, "small").standing is Standing.CHOSEN
    assert found.bindings == ()
    assert {price.saving for price in found.shadow_prices or ()} == {0.0}


def test_an_accelerator_that_must_stay_is_told_with_what_that_costs(lab: Any, two: System) -> None:
    kept = lab.server("first", 4.0, runs=("big", 1), cost=8.0, keep_accelerator=True)
    found = ask(lab, replace(two, servers=(kept,)), "first")
    small = option(found, "small")
    assert small.standing is Standing.NOT_ALLOWED
    assert small.reason == "keepAccelerator: it stays on big"
    (binding,) = found.bindings
    assert (binding.limit, binding.accelerator) == (Limit.KEEP, "small")
    # 1 of big stays at value 0; 2 of small would cost 6 less, and 1.0 for the switch.
    assert binding.saving == pytest.approx(5.0)
    assert option(found, "odd").standing is Standing.INFEASIBLE
    assert found.next_best is None


def test_a_minimum_above_the_need_is_a_limit(lab: Any, two: System) -> None:
    server = lab.server("first", 4.0, min_replicas=3)
    found = ask(lab, replace(two, servers=(server,)), "first")
    (binding,) = found.bindings
    assert (binding.limit, binding.accelerator) == (Limit.MINIMUM, "small")
    assert binding.detail == "its load needs 2 replicas, the minimum is 3"
    needed = replace(two, servers=(lab.server("first", 6.0, min_replicas=3),))
    assert ask(lab, needed, "first").bindings == ()


def test_who_gets_nothing_is_told_why_for_every_accelerator(lab: Any, two: System) -> None:
    short = replace(two, capacity={"small": 2, "big": 0})
    found = ask(lab, short, "second")
    assert found.allocation is None
    assert found.shortfall is not None
    assert [(each.limit, each.accelerator, each.saving) for each in found.bindings] == [
        (Limit.CAPACITY, "small", None),
        (Limit.CAPACITY, "big", None),
    ]
    assert found.chosen is None
    assert explanation_document(found)["nextBest"] is None


def test_part_of_a_candidate_is_chosen_and_short(lab: Any, two: System) -> None:
    options = replace(two.options, saturation_policy=SaturationPolicy.PRIORITY_EXHAUSTIVE)
    found = ask(lab, replace(two, capacity={"small": 3}, options=options), "second")
    assert found.allocation is not None
    assert found.allocation.replicas == 1
    small = option(found, "small")
    assert (small.standing, small.limit) == (Standing.CHOSEN, Limit.PRIORITY)
    assert found.shortfall is not None
    assert found.shortfall.reason == "no-capacity"
    assert [(each.limit, each.accelerator) for each in found.bindings] == [
        (Limit.PRIORITY, "small"),
        (Limit.CAPACITY, "big"),
    ]


def test_a_server_that_cannot_be_considered_says_so(lab: Any, two: System) -> None:
    stray = replace(lab.server("stray"), service_class="Gold")
    found = ask(lab, replace(two, servers=(stray,)), "stray")
    assert found.options == ()
    assert found.priority is None
    assert found.shortfall is not None
    assert found.shortfall.detail == 'no service class "Gold"'


def test_a_server_without_load_needs_nothing(lab: Any, two: System) -> None:
    found = ask(lab, replace(two, servers=(lab.server("idle", 0.0),)), "idle")
    assert found.demand_from == "no load"
    (none,) = found.options
    assert (none.accelerator, none.standing) == ("", Standing.CHOSEN)


def test_a_tps_target_is_told_as_the_source_of_the_demand(lab: Any, two: System) -> None:
    found = ask(lab, replace(two, classes=lab.classes("m", tps=300.0)), "first")
    assert found.demand_rps == 3.0
    assert found.demand_from == "TPS target: 300 tokens/s of 100 each"


def test_one_more_card_is_priced_by_solving_again(lab: Any, two: System) -> None:
    # Two more cards of small would do; one does nothing.
    prices = {each.card_type: each for each in ask(lab, two, "second").shadow_prices or ()}
    assert set(prices) == {"small", "big", "odd"}
    assert prices["small"].saving == 0.0
    nearly = replace(two, capacity={"small": 4, "big": 5})
    prices = {each.card_type: each for each in ask(lab, nearly, "second").shadow_prices or ()}
    assert prices["small"].saving == pytest.approx(1.1 * (8.0 - 3.0))
    assert prices["small"].allocation is not None
    assert prices["small"].allocation.accelerator == "small"
    assert prices["big"].saving == 0.0
    assert prices["big"].allocation is None


def test_a_card_that_serves_another_server_names_it_instead_of_a_price(
    lab: Any, two: System
) -> None:
    short = replace(two, capacity={"small": 4, "big": 0})
    for server in ("first", "second"):
        prices = {each.card_type: each for each in ask(lab, short, server).shadow_prices or ()}
        assert prices["small"].saving is None
        assert prices["small"].newly_served == ("second",)
        assert prices["big"].newly_served == ("second",)


def test_shadow_prices_are_left_out_on_request(lab: Any, two: System) -> None:
    found = ask(lab, two, "first", shadow_prices=False)
    assert found.shadow_prices is None
    assert explanation_document(found)["shadowPrices"] is None


def test_values_are_watts_where_power_is_made_least(lab: Any, two: System) -> None:
    powered = tuple(replace(each, power=Power(10.0, 100.0, 80.0, 0.6)) for each in two.accelerators)
    options = replace(two.options, objective=Objective.POWER)
    found = ask(lab, replace(two, accelerators=powered, options=options), "first")
    document = explanation_document(found)
    assert document["valueUnit"] == "W"
    by_name = {each["accelerator"]: each for each in document["accelerators"]}
    assert by_name["big"]["value"] == pytest.approx(1.1 * by_name["big"]["power"])
    assert found.chosen is not None
    assert found.chosen.allocation.accelerator == "big"


def test_a_server_that_is_not_there_is_bad_input_with_the_nearest_name(
    lab: Any, two: System
) -> None:
    expected = re.escape('there is no server "frist"; did you mean first?')
    with pytest.raises(InputError, match=expected):
        ask(lab, two, "frist")


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 3), st.integers(1, 3))
def test_the_winner_is_the_best_that_fits_and_the_document_is_json(
    lab: Any, small: int, big: int, first: int, second: int
) -> None:
    system = lab.system(
        [lab.accelerator("small", 1.0), lab.accelerator("big", 8.0)],
        [lab.perf("m", "small", rate_rps=2.0), lab.perf("m", "big", rate_rps=10.0)],
        [
            lab.server("first", 7.0, priority=first, runs=("big", 1), cost=8.0),
            lab.server("second", 13.0, priority=second),
        ],
        capacity={"small": small, "big": big},
    )
    for name in ("first", "second"):
        found = explain(system, name, model_of=lab.model_of)
        assert json.loads(json.dumps(explanation_document(found), allow_nan=False))
        if found.chosen is not None and found.shortfall is None:
            feasible = [o.candidate for o in found.options if o.standing is Standing.FEASIBLE]
            assert all(each and each.value >= found.chosen.value for each in feasible)
            better = {o for o, value in values(found).items() if value < found.chosen.value}
            assert better == {each.accelerator for each in found.bindings}


@pytest.fixture
def loop(lab: Any, two: System) -> Any:
    """Explains what the planner gives `two` with other servers, under constraints by name."""

    def ask_planner(
        *servers: Server, of: str, prices: bool = False, **constraints: ServerConstraint
    ) -> Explanation | None:
        problem = Problem(replace(two, servers=servers), constraints, {})
        planner = Planner(lab.model_of)
        solution = planner.solve(problem)
        return planner.explain(problem, solution, [of], shadow_prices=prices).get(of)

    return ask_planner


def test_in_the_loop_the_accelerator_that_is_held_is_told(lab: Any, loop: Any) -> None:
    server = lab.server("s", 4.0, runs=("big", 1), cost=8.0)
    found = loop(server, of="s", s=ServerConstraint(accelerator="big"))
    small = option(found, "small")
    assert (small.standing, small.limit) == (Standing.NOT_ALLOWED, Limit.KEEP)
    assert small.reason == "it is bound to big in this cycle"
    assert found.allocation.accelerator == "big"


def test_in_the_loop_a_maximum_binds(lab: Any, loop: Any) -> None:
    server = lab.server("s", 6.0, runs=("small", 1), cost=1.0)
    short = loop(server, of="s", s=ServerConstraint(max_replicas=2, accelerator="small"))
    assert short.allocation.replicas == 2
    assert (short.bindings[0].limit, short.bindings[-1].limit) == (Limit.KEEP, Limit.MAXIMUM)
    other = loop(server, of="s", s=ServerConstraint(max_replicas=2))
    assert other.allocation.accelerator == "big"
    (binding,) = other.bindings
    assert (binding.limit, binding.accelerator) == (Limit.MAXIMUM, "small")
    assert binding.detail == "needs 3 replicas of small, at most 2 allowed"
    assert binding.saving > 0


def test_in_the_loop_what_runs_counts_as_its_owners(lab: Any, loop: Any) -> None:
    holder = lab.server("holder", 6.0, priority=1, runs=("small", 3), cost=3.0)
    newcomer = lab.server("newcomer", 2.0, priority=2)
    found = loop(holder, newcomer, of="newcomer")
    small = option(found, "small")
    assert small.standing is Standing.NO_CAPACITY
    assert "0 of 3 are left" in small.reason
    assert loop(holder, newcomer, of="holder").chosen.cards == 3


def test_in_the_loop_demand_names_what_waits(lab: Any, loop: Any) -> None:
    found = loop(lab.server("s", 4.0, backlog_rps=1.0), of="s")
    assert found.demand_rps == 5.0
    assert found.demand_from == "arrivals, and 60.0 req/min to drain what waits"


def test_who_is_kept_as_it_is_was_not_optimized(lab: Any, loop: Any) -> None:
    assert loop(lab.server("s"), of="s", s=ServerConstraint(keep=True)) is None
    assert loop(lab.server("s"), of="other") is None


def test_in_the_loop_shadow_prices_come_on_request(lab: Any, loop: Any) -> None:
    server = lab.server("s", 8.0)
    assert loop(server, of="s").shadow_prices is None
    prices = {each.card_type: each for each in loop(server, of="s", prices=True).shadow_prices}
    assert prices["small"].saving == pytest.approx(1.1 * (8.0 - 4.0))


def test_parts_of_a_mix_are_chosen_with_the_load_that_each_serves(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("large", 9.0), lab.accelerator("small", 4.0)],
        [lab.perf("m", "large", rate_rps=10.0), lab.perf("m", "small", rate_rps=3.0)],
        [lab.server("s", 12.0)],
        milp_solver=True,
        heterogeneous=True,
    )
    found = explain(system, "s", model_of=lab.model_of)
    assert found.allocation is not None
    assert {each.accelerator for each in found.allocation.variants} == {"large", "small"}
    assert [each.standing for each in found.options] == [Standing.CHOSEN] * 2
    assert "1 replica serves" in option(found, "large").reason
    assert found.chosen is None
    assert found.bindings == ()
    # large 9 + small 4, and 10 % for the move; 4 of small alone are 16.
    assert found.value == pytest.approx(1.1 * 13.0)
    other = found.next_best
    assert other is not None
    assert (other.allocation.accelerator, other.allocation.replicas) == ("small", 4)
    document = explanation_document(found)["nextBest"]
    assert document["accelerator"] == "small"
    assert document["extraValue"] == pytest.approx(1.1 * 3.0)
    assert document["extraCost"] == pytest.approx(3.0)
    alone = replace(system, capacity={"large": 9, "small": 3})
    other = explain(alone, "s", model_of=lab.model_of).next_best
    assert other is not None
    assert other.allocation.accelerator == "large"
    assert json.dumps(explanation_document(found), allow_nan=False)
