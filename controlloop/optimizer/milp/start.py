"""Greedy's answer as the start of the search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.api.system import OptimizerOptions, SaturationPolicy
from controlloop.optimizer.answer import Choice
from controlloop.optimizer.greedy import choose_greedily
from controlloop.optimizer.milp.pool import Pool
from controlloop.optimizer.milp.stage import NOTHING


def start_from_greedy(
    pool: Pool, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
) -> IntArray:
    """The column of each server that greedy serves whole: (S,), NOTHING for the others.

    Where greedy gives parts of candidates to some servers before others have chosen, its answer
    without that may be better or worse: the better one is taken.
    """
    choice = choose_greedily(candidates, capacity, options)
    best = _picked(pool, candidates, choice)
    if np.all(best[np.diff(candidates.start) > 0] != NOTHING):
        return best
    alone = replace(options, saturation_policy=SaturationPolicy.NONE)
    if options.saturation_policy is SaturationPolicy.NONE or options.delayed_best_effort:
        return best
    other = _picked(pool, candidates, choose_greedily(candidates, capacity, alone))
    return min((best, other), key=lambda each: _rank(pool, candidates, each))


def _picked(pool: Pool, candidates: Candidates, choice: Choice) -> IntArray:
    column = np.full(len(candidates), NOTHING, dtype=np.int64)
    column[pool.rows.first_row] = np.arange(len(pool.rows))
    picked = np.full(len(candidates.servers), NOTHING, dtype=np.int64)
    some = np.flatnonzero(choice.row >= 0)
    whole = some[choice.replicas[some] == candidates.replicas[choice.row[some]]]
    picked[whole] = column[choice.row[whole]]
    return picked


def _rank(pool: Pool, candidates: Candidates, picked: IntArray) -> tuple[list[int], float]:
    """Fewest unserved servers by priority, then the least value: less is better."""
    unserved = candidates.priority[picked == NOTHING]
    counts = [int(np.count_nonzero(unserved == each)) for each in np.unique(candidates.priority)]
    return counts, math.fsum(pool.columns.value[picked[picked != NOTHING]].tolist())
