"""Prices of cards: the bound they prove, the columns they rule out, and dominance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milp_oracle import best
from milp_systems import contested_system, small_system
from scipy.optimize import linprog

from controlloop.optimizer.milp import MilpSolver
from controlloop.optimizer.milp.columns import Columns, undominated
from controlloop.optimizer.milp.dual import best_prices, price
from controlloop.optimizer.milp.pool import Aim, WholePool, stage_of
from controlloop.optimizer.milp.stage import Counts, Stage


def all_served(lab: Any, seed: int) -> tuple[Stage, float, Columns]:
    """The stage in which everybody must be served, and the least total value."""
    system = contested_system(lab, seed, 5)
    system = small_capacity(system, 14)
    candidates = lab.candidates(system)
    pool = WholePool(candidates, candidates.capacity_by_type(system.capacity))
    counts, value = best(system, several=False)
    assert sum(counts) == len(system.servers)
    everybody = np.arange(len(system.servers))
    must = np.ones(len(everybody), dtype=np.bool_)
    none = np.zeros(len(everybody), dtype=np.int64)
    rules = Counts(everybody, must, none, np.zeros(0))
    return stage_of(pool, rules, Aim.least_value(pool)), value, pool.columns


def small_capacity(system: Any, cards: int) -> Any:
    return replace(system, capacity=dict.fromkeys(system.capacity, cards))


@settings(max_examples=60)
@given(seed=st.integers(0, 30), scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]))
def test_no_prices_give_a_bound_above_the_optimum(lab: Any, seed: int, scale: float) -> None:
    stage, value, _ = all_served(lab, seed)
    card = scale * np.random.default_rng(seed).random(len(stage.capacity))
    prices = price(stage, card, np.zeros(0))
    assert prices.bound <= value + 1e-9
    assert np.all(prices.excess >= -1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_prices_are_as_good_as_the_linear_relaxation(lab: Any, seed: int) -> None:
    stage, value, _ = all_served(lab, seed)
    prices = best_prices(stage, value, lambda: True)
    one = np.zeros((len(stage.counts.members), len(stage)))
    one[stage.server, np.arange(len(stage))] = 1.0
    relaxed = linprog(
        stage.objective,
        A_ub=stage.cards.toarray().T,
        b_ub=stage.capacity,
        A_eq=one,
        b_eq=np.ones(len(one)),
        method="highs",
    )
    assert prices.bound <= value + 1e-9
    assert prices.bound == pytest.approx(relaxed.fun, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_column_of_more_excess_than_the_gap_is_in_no_better_solution(lab: Any, seed: int) -> None:
    stage, value, columns = all_served(lab, seed)
    prices = best_prices(stage, value, lambda: True)
    system = small_capacity(contested_system(lab, seed, 5), 14)
    solution = MilpSolver().solve(lab.candidates(system), system.capacity, system.options)
    gap = solution.objective - prices.bound
    candidates = lab.candidates(system)
    position = {
        (
            candidates.servers[int(columns.server[at])],
            candidates.accelerators[int(candidates.accelerator[columns.mixes[at][0][0]])],
        ): index
        for index, at in enumerate(stage.column.tolist())
    }
    for name, allocation in solution.allocations.items():
        assert prices.excess[position[name, allocation.accelerator]] <= gap + 1e-9


@settings(max_examples=60)
@given(seed=st.integers(0, 500))
def test_dominated_columns_are_those_for_which_there_is_a_better_one(lab: Any, seed: int) -> None:
    system = small_system(lab, seed)
    candidates = lab.candidates(system)
    pool = WholePool(candidates, candidates.capacity_by_type(system.capacity))
    columns, everything = pool.columns, np.arange(len(pool.columns))
    kept = undominated(columns, everything, columns.value)
    cards = columns.cards.toarray()

    def covers(better: int, worse: int) -> bool:
        return bool(
            columns.server[better] == columns.server[worse]
            and columns.value[better] <= columns.value[worse]
            and np.all(cards[better] <= cards[worse])
        )

    for at in everything.tolist():
        if at in kept:
            others = [each for each in kept.tolist() if each != at]
            single = np.count_nonzero(cards[at]) == 1
            assert not (single and any(covers(each, at) for each in others))
        else:
            assert any(covers(each, at) for each in kept.tolist())
