"""What runs now, with what is predicted of it for the load of today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from controlloop.api.system import Allocation, System
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.supply import ModelSource
from controlloop.queueing.models import queue_models


def predict_present(
    system: System, *, model_of: ModelSource | None = None
) -> Mapping[str, Allocation]:
    """What each server of `system` runs, with ITL and TTFT predicted for its load.

    The load is capped at saturation. Servers that run nothing are absent; latencies are NaN where
    there is no data to predict from, or a server runs on several accelerators.

    Args:
        system: with what runs now.
        model_of: gives the queue model of a name; None is the table of `controlloop.queueing`.

    """
    candidates = build_candidates(system, model_of or queue_models().create)
    itl_ms, ttft_ms, _ = candidates.predict_current()
    predicted = dict(
        zip(candidates.servers, zip(itl_ms.tolist(), ttft_ms.tolist(), strict=True), strict=True)
    )
    found = {}
    for server in system.servers:
        if not server.current.total_replicas:
            continue
        if server.current.variants:
            # What was predicted of each part was so for the load of then.
            itl, ttft = np.nan, np.nan
        else:
            itl, ttft = predicted.get(server.name, (np.nan, np.nan))
        parts = tuple(replace(part, itl_ms=itl, ttft_ms=ttft) for part in server.current.variants)
        found[server.name] = replace(server.current, itl_ms=itl, ttft_ms=ttft, variants=parts)
    return found
