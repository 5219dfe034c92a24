"""What an allocation takes by the objective: money, power, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import FloatArray
from controlloop.api.system import Objective, OptimizerOptions
from controlloop.errors import InputError, Problem
from controlloop.units import kw_from_w


@dataclass(frozen=True, slots=True, eq=False)
class Expenses:
    """Of each row (m,), and of what runs now (S,): cents/hour, or W where power is made least."""

    rows: FloatArray
    current: FloatArray


def expenses(candidates: Candidates, options: OptimizerOptions) -> Expenses:
    """The expenses by the objective of `options`.

    Power that cannot be predicted of what runs now counts 0. Then no candidate runs on the same
    accelerator, so that this is the same for all candidates of the server.

    Raises:
        InputError: the price of energy is no number >= 0.

    """
    if options.objective is Objective.COST:
        return Expenses(candidates.cost, candidates.current_cost)
    rows_w = candidates.predict_power(np.arange(len(candidates)), candidates.replicas)
    current_w = np.nan_to_num(candidates.predict_current()[2], nan=0.0)
    if options.objective is Objective.POWER:
        return Expenses(rows_w, current_w)
    price = options.energy_price
    if not (math.isfinite(price) and price >= 0):
        raise InputError([Problem("energyPrice", "must be a number >= 0", str(price))])
    return Expenses(
        candidates.cost + price * kw_from_w(1.0) * rows_w,
        candidates.current_cost + price * kw_from_w(1.0) * current_w,
    )
