"""From what a solver chose to a solution: allocations with predictions, and reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.api.solution import Solution, SolveStatus, Unserved
from controlloop.api.system import NO_ACCELERATOR, Allocation
from controlloop.optimizer.reasons import why_short

# A total of nothing has no gap relative to it.
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What each of the S servers gets.

    Attributes:
        row: (S,) a row of the candidates, -1 for nothing.
        replicas: (S,) replicas of it, at most as many as the row has.

    """

    row: IntArray
    replicas: IntArray

    @classmethod
    def nothing(cls, servers: int) -> Choice:
        """A choice to fill in."""
        return cls(np.full(servers, -1, dtype=np.int64), np.zeros(servers, dtype=np.int64))

    def cards(self, candidates: Candidates) -> tuple[IntArray, IntArray]:
        """Type and number of cards that each server gets, each (S,); -1 and 0 for none."""
        card_type = np.full(len(self.row), -1, dtype=np.int64)
        cards = np.zeros(len(self.row), dtype=np.int64)
        some = np.flatnonzero((self.row >= 0) & (self.replicas > 0))
        rows = self.row[some]
        card_type[some] = candidates.card_type[rows]
        cards[some] = self.replicas[some] * candidates.cards_per_replica[rows]
        return card_type, cards


def solution_of(
    candidates: Candidates,
    choice: Choice,
    left: Mapping[str, int] | None,
    *,
    solver: str,
    status: SolveStatus,
    bound: float | None = None,
    message: str = "",
) -> Solution:
    """The solution that `choice` is.

    Costs and values scale with the replicas; latencies are predicted for the load that they
    get. `bound` counts only where every server is served whole: values of servers that get
    nothing compare with nothing.

    Args:
        candidates: what was chosen from.
        choice: what was chosen.
        left: cards by type that it leaves, None where there are always enough.
        solver: name of the solver.
        status: how far it got.
        bound: the least total value that any solution could have, None if not known.
        message: what else there is to say.

    """
    served = np.flatnonzero(choice.row >= 0)
    rows, replicas = choice.row[served], choice.replicas[served]
    whole = np.maximum(candidates.replicas[rows], 1)
    itl_ms, ttft_ms = candidates.predict(rows, replicas)
    tails = candidates.predict_tails(rows, replicas)
    power_w = candidates.predict_power(rows, replicas).tolist()
    names = (*candidates.accelerators, NO_ACCELERATOR)
    allocations = {
        candidates.servers[server]: Allocation(
            names[accelerator], count, batch, cost, itl, ttft, candidates.loads[server]
        )
        for server, accelerator, count, batch, cost, itl, ttft in zip(
            served.tolist(),
            candidates.accelerator[rows].tolist(),
            replicas.tolist(),
            candidates.max_batch[rows].tolist(),
            (candidates.cost[rows] * replicas / whole).tolist(),
            itl_ms.tolist(),
            ttft_ms.tolist(),
            strict=True,
        )
    }
    if tails is not None:
        for at, name in enumerate(allocations):
            itl_tail, ttft_tail = tails.of(at)
            allocations[name] = replace(allocations[name], itl_tail=itl_tail, ttft_tail=ttft_tail)
    unserved = _unserved(candidates, choice, left)
    scale = np.where(candidates.replicas[rows] > 0, replicas / whole, 1.0)
    objective = math.fsum((candidates.value[rows] * scale).tolist())
    if unserved:
        bound = None
    gap = None if bound is None else abs(objective - bound) / max(abs(objective), _TINY)
    return Solution(
        allocations=allocations,
        unserved=tuple(sorted((*candidates.unserved, *unserved), key=lambda each: each.server)),
        status=status,
        solver=solver,
        objective=objective,
        bound=bound,
        gap=gap,
        message=message,
        power_w={
            candidates.servers[server]: power
            for server, power in zip(served.tolist(), power_w, strict=True)
            if math.isfinite(power)
        },
    )


def choice_of(candidates: Candidates, solution: Solution) -> Choice:
    """The choice that a solution is; allocations that are no candidates count as nothing."""
    choice = Choice.nothing(len(candidates.servers))
    accelerators = {name: at for at, name in enumerate(candidates.accelerators)}
    # Rows are in order of server and accelerator, the zero allocation (-1) alone of its server.
    width = len(accelerators) + 1
    keys = candidates.server * width + candidates.accelerator + 1
    for at, name in enumerate(candidates.servers):
        allocation = solution.allocations.get(name)
        if allocation is None:
            continue
        wanted = at * width + accelerators.get(allocation.accelerator, -1) + 1
        row = int(np.searchsorted(keys, wanted))
        if row < len(keys) and keys[row] == wanted:
            choice.row[at], choice.replicas[at] = row, allocation.replicas
    return choice


def cards_left(
    candidates: Candidates, choice: Choice, capacity: Mapping[str, int]
) -> dict[str, int]:
    """Cards of each type that `choice` leaves of `capacity`."""
    left = candidates.capacity_by_type(capacity)
    card_type, cards = choice.cards(candidates)
    some = cards > 0
    np.subtract.at(left, card_type[some], cards[some])
    return dict(zip(candidates.types, left.tolist(), strict=True))


def _unserved(
    candidates: Candidates, choice: Choice, left: Mapping[str, int] | None
) -> list[Unserved]:
    """Who has a candidate and got nothing of it, or less than the load needs."""
    if not len(candidates):
        return []
    has_rows = np.diff(candidates.start) > 0
    got = np.where(choice.row >= 0, choice.replicas, 0)
    needed = candidates.needed_replicas[np.maximum(choice.row, 0)]
    first = candidates.rows_by_value()[np.minimum(candidates.start[:-1], len(candidates) - 1)]
    row = np.where(choice.row >= 0, choice.row, first)
    short = np.flatnonzero(has_rows & ((choice.row < 0) | (got < needed)))
    return [why_short(candidates, int(row[at]), int(got[at]), left) for at in short]
