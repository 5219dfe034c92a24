"""Allocations of servers on several accelerators, with what each part is predicted to do."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.system import Allocation, Tail, Variant
from controlloop.optimizer.milp.columns import Mix


def mixed_allocations(
    candidates: Candidates, mixes: Mapping[int, Mix]
) -> tuple[dict[str, Allocation], dict[str, float]]:
    """Allocations by server name, and the power of those for which it is known, W.

    The load is shared in proportion to lambda* r, so that all replicas are used to the same
    part of what they could take and every latency stays within its target.

    Args:
        candidates: what the mixes are of.
        mixes: by position of the server, of two parts or more.

    """
    if not mixes:
        return {}, {}
    server = np.repeat(list(mixes), [len(mix) for mix in mixes.values()])
    entries = np.array([part for mix in mixes.values() for part in mix], dtype=np.int64)
    row, replicas = entries[:, 0], entries[:, 1]
    rate_rps = candidates.rate_rps[row] * replicas
    total = np.bincount(server, weights=rate_rps, minlength=len(candidates.servers))
    share = rate_rps / total[server]
    # The predictor knows the whole demand of a server: n replicas with a share of the load see
    # as much as n / share replicas do with all of it.
    alike = replicas / share
    itl_ms, ttft_ms = candidates.predict(row, alike)
    tails = candidates.predict_tails(row, alike)
    power_w = candidates.predict_power(row, alike) * share
    unit = candidates.cost[row] / candidates.replicas[row]
    parts: dict[int, list[Variant]] = {}
    power: dict[int, list[float]] = {}
    order = np.lexsort((candidates.accelerator[row], -share, server))
    first: dict[int, tuple[Tail | None, Tail | None]] = {}
    for at in order.tolist():
        variant = Variant(
            accelerator=candidates.accelerators[candidates.accelerator[row[at]]],
            replicas=int(replicas[at]),
            max_batch=int(candidates.max_batch[row[at]]),
            cost_per_hour=float(unit[at] * replicas[at]),
            itl_ms=float(itl_ms[at]),
            ttft_ms=float(ttft_ms[at]),
            share=float(share[at]),
        )
        parts.setdefault(int(server[at]), []).append(variant)
        if tails is not None:
            first.setdefault(int(server[at]), tails.of(at))
        power.setdefault(int(server[at]), []).append(float(power_w[at]))
    allocations = {
        candidates.servers[each]: _allocation(
            candidates, each, tuple(variants), first.get(each, (None, None))
        )
        for each, variants in parts.items()
    }
    totals = {candidates.servers[each]: math.fsum(watts) for each, watts in power.items()}
    return allocations, {name: each for name, each in totals.items() if math.isfinite(each)}


def _allocation(
    candidates: Candidates,
    server: int,
    variants: tuple[Variant, ...],
    tails: tuple[Tail | None, Tail | None],
) -> Allocation:
    first = variants[0]
    return Allocation(
        accelerator=first.accelerator,
        replicas=first.replicas,
        max_batch=first.max_batch,
        cost_per_hour=first.cost_per_hour,
        itl_ms=first.itl_ms,
        ttft_ms=first.ttft_ms,
        load=candidates.loads[server],
        variants=variants,
        itl_tail=tails[0],
        ttft_tail=tails[1],
    )
