"""Which batch each server would have on each accelerator, where it may choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.optimizer.fleet import Choices, Fleet
from controlloop.optimizer.pairs import Pairs, size_pairs
from controlloop.optimizer.supply import Supply

_INFEASIBLE: Final = 1e300


@dataclass(frozen=True, slots=True, eq=False)
class SizedFleet:
    """Pairs with the batch that was chosen for each.

    Attributes:
        pairs: sized; `pairs.of` names the pair of the batch chosen.
        preferred: (S, A) the pair of the preferred batch: of what runs, the batch that runs.
        batch: (S,) the batch that runs, where there is a choice and it is known; else 0.

    """

    pairs: Pairs
    preferred: IntArray
    batch: IntArray


def size_fleet(fleet: Fleet, supply: Supply, tolerance: float) -> SizedFleet:
    """Size every pair, with the batch that needs the fewest replicas; the preferred one in ties.

    Args:
        fleet: the servers.
        supply: the accelerators.
        tolerance: so little above a whole number of replicas needs no further one, relative.

    """
    if all(each is None for each in fleet.choices):
        pairs = size_pairs(fleet, supply)
        return SizedFleet(pairs, pairs.of, np.zeros(len(fleet), dtype=np.int64))
    asked = list(_questions(fleet))
    servers = np.array([at for at, _, _ in asked], dtype=np.int64)
    every = replace(
        fleet.take(servers),
        batch=np.array([batch for _, batch, _ in asked], dtype=np.int64),
        choices=tuple(choices for _, _, choices in asked),
    )
    pairs = size_pairs(every, supply)
    first = np.searchsorted(servers, np.arange(len(fleet) + 1))
    of = np.full((len(fleet), pairs.of.shape[1]), -1, dtype=np.int64)
    preferred = of.copy()
    needed = _needed(every, pairs, tolerance)
    columns = np.arange(of.shape[1])
    for at, (start, end) in enumerate(pairwise(first.tolist())):
        # The first of equals: questions are in order of preference.
        of[at] = pairs.of[start + np.argmin(needed[start:end], axis=0), columns]
        known = pairs.of[start:end] >= 0
        preferred[at] = pairs.of[start + np.argmax(known, axis=0), columns]
    batch = [
        0 if choices is None else server.current.max_batch
        for server, choices in zip(fleet.servers, fleet.choices, strict=True)
    ]
    chosen = replace(pairs, of=of)
    return SizedFleet(chosen, preferred, np.array(batch, dtype=np.int64))


def _questions(fleet: Fleet) -> Iterator[tuple[int, int, Choices | None]]:
    """Server, batch and where it may have that batch, for every batch; preferred ones first."""
    for at, choices in enumerate(fleet.choices):
        given = int(fleet.batch[at])
        if not choices:
            yield at, given, choices
            continue
        batches = dict.fromkeys(batch for some in choices.values() for batch in some)
        for batch in batches:
            where = {key: (batch,) for key, some in choices.items() if batch in some}
            yield at, batch or given, where


def _needed(fleet: Fleet, pairs: Pairs, tolerance: float) -> FloatArray:
    """Replicas that each server needs of each pair: (S, A)."""
    needed = np.full(pairs.of.shape, np.inf)
    known = pairs.of >= 0
    fine = pairs.fault_of == 0
    needed[known & ~fine] = _INFEASIBLE
    server, accelerator = np.nonzero(fine)
    share = fleet.demand_rps[server] / pairs.rate_rps[pairs.of[server, accelerator]]
    whole = np.ceil(share * (1 - tolerance))
    needed[server, accelerator] = np.maximum(whole, fleet.min_replicas[server])
    return needed
