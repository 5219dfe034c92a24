"""Allocations as JSON documents that hold whatever was measured, without judging it."""

from __future__ import annotations

import math
from typing import Any

from controlloop.api.system import Allocation, Load, Variant
from controlloop.units import rpm_from_rps


def number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: what is no number is null."""
    return value if value is not None and math.isfinite(value) else None


def load_document(load: Load) -> dict[str, Any]:
    """A load; its rate in requests/minute."""
    return {
        "arrivalRate": number(rpm_from_rps(load.rate_rps)),
        "avgInTokens": number(load.input_tokens),
        "avgOutTokens": number(load.output_tokens),
    }


def allocation_document(allocation: Allocation) -> dict[str, Any]:
    """An allocation in the documented spelling; times in ms, cost in cents/hour."""
    document = {**_part(allocation), "load": load_document(allocation.load)}
    if allocation.variants:
        document["variants"] = [
            {**_part(each), "share": number(each.share)} for each in allocation.variants
        ]
    return document


def _part(part: Allocation | Variant) -> dict[str, Any]:
    return {
        "accelerator": part.accelerator,
        "numReplicas": part.replicas,
        "maxBatch": part.max_batch,
        "cost": number(part.cost_per_hour),
        "itlAverage": number(part.itl_ms),
        "ttftAverage": number(part.ttft_ms),
    }
