"""What the loads of today need of what runs, whole or not, before anybody bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from controlloop.api.decision import ServerConstraint
from controlloop.api.system import System
from controlloop.optimizer.candidates import RATE_TOLERANCE, build_candidates
from controlloop.optimizer.fleet import DemandRule
from controlloop.optimizer.supply import ModelSource
from controlloop.queueing.models import queue_models


def replicas_needed(system: System, *, model_of: ModelSource | None = None) -> Mapping[str, float]:
    """Replicas that each server's demand asks of the accelerator and batch it runs on.

    The demand over the greatest rate of one replica within its targets: 3.2 is served by 4. A
    server is absent where that cannot be said: it runs nothing, nothing is known of its pair, or
    no number of replicas would meet its targets.

    Args:
        system: with what runs now, and the loads to size for.
        model_of: gives the queue model of a name; None is the table of `controlloop.queueing`.

    """
    running = tuple(
        replace(each, min_replicas=0) for each in system.servers if each.current.replicas
    )
    bounds = {
        each.name: ServerConstraint(
            accelerator=each.current.accelerator, max_batch=each.current.max_batch or None
        )
        for each in running
    }
    candidates = build_candidates(
        replace(system, servers=running),
        model_of or queue_models().create,
        rule=DemandRule.LOOP,
        constraints=bounds,
    )
    demand = candidates.demand_rps[candidates.server]
    # The row of no replicas is that of no demand.
    some = candidates.rate_rps > 0
    needed = np.zeros(len(candidates))
    np.divide(demand * (1 - RATE_TOLERANCE), candidates.rate_rps, out=needed, where=some)
    names = [candidates.servers[at] for at in candidates.server.tolist()]
    return dict(zip(names, needed.tolist(), strict=True))
