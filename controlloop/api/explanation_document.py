"""An explanation as a JSON document.

Rates in requests/minute, times in ms, costs in cents/hour, power in W; values and savings in
cents/hour, or in W where power is made least (`valueUnit`).
"""

from __future__ import annotations

from typing import Any

from controlloop.api.allocation_document import allocation_document, load_document, number
from controlloop.api.explanation import Candidate, Explanation, Option, ShadowPrice
from controlloop.api.system import Allocation, Objective, Target
from controlloop.units import rpm_from_rps


def explanation_document(explanation: Explanation) -> dict[str, Any]:
    """The explanation in JSON's values; what there is none of is null."""
    server, target = explanation.server, explanation.target
    short, value, other = explanation.shortfall, explanation.value, explanation.next_best
    found = explanation.allocation
    prices = explanation.shadow_prices
    return {
        "server": server.name,
        "model": server.model,
        "class": server.service_class,
        "priority": explanation.priority,
        "targets": None if target is None else _targets(target),
        "load": load_document(server.current.load),
        "demand": number(rpm_from_rps(explanation.demand_rps)),
        "demandFrom": explanation.demand_from,
        "objective": str(explanation.objective),
        "valueUnit": value_unit(explanation.objective),
        "solver": explanation.solver,
        "message": explanation.message,
        "current": _allocation(server.current),
        "allocation": _allocation(explanation.allocation),
        "unserved": None
        if short is None
        else {"reason": str(short.reason), "detail": short.detail},
        "accelerators": [_option(each) for each in explanation.options],
        "nextBest": None
        if found is None or value is None or other is None
        else {
            "accelerator": other.allocation.accelerator,
            "extraValue": number(other.value - value),
            "extraCost": number(other.allocation.cost_per_hour - found.total_cost_per_hour),
        },
        "bindings": [
            {
                "limit": str(each.limit),
                "accelerator": each.accelerator,
                "detail": each.detail,
                "saving": number(each.saving),
            }
            for each in explanation.bindings
        ],
        "shadowPrices": None if prices is None else [_price(each) for each in prices],
    }


def value_unit(objective: Objective) -> str:
    """The unit of values by what is made least."""
    return "W" if objective is Objective.POWER else "cents/h"


def _allocation(allocation: Allocation | None) -> dict[str, Any] | None:
    return None if allocation is None else allocation_document(allocation)


def _option(option: Option) -> dict[str, Any]:
    return {
        "accelerator": option.accelerator,
        "standing": str(option.standing),
        "reason": option.reason,
        "limit": None if option.limit is None else str(option.limit),
        **(_candidate(option.candidate) if option.candidate else {}),
    }


def _targets(target: Target) -> dict[str, Any]:
    percentiles = {
        "slo-itl-percentile": target.itl_percentile,
        "slo-ttft-percentile": target.ttft_percentile,
    }
    return {
        "slo-itl": number(target.itl_ms),
        "slo-ttft": number(target.ttft_ms),
        "slo-tps": number(target.tps),
        **{key: number(value) for key, value in percentiles.items() if value},
    }


def _tails(allocation: Allocation) -> dict[str, Any]:
    tails = {"itlPercentile": allocation.itl_tail, "ttftPercentile": allocation.ttft_tail}
    return {
        key: {"percentile": number(tail.percentile), "latency": number(tail.ms)}
        for key, tail in tails.items()
        if tail is not None
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    allocation = candidate.allocation
    return {
        "sizedRate": rpm_from_rps(candidate.rate_rps),
        "numReplicas": allocation.replicas,
        "maxBatch": allocation.max_batch,
        "type": candidate.card_type,
        "cards": candidate.cards,
        "cost": number(allocation.cost_per_hour),
        "value": number(candidate.value),
        "power": number(candidate.power_w),
        "itlAverage": number(allocation.itl_ms),
        "ttftAverage": number(allocation.ttft_ms),
        **_tails(allocation),
    }


def _price(price: ShadowPrice) -> dict[str, Any]:
    return {
        "type": price.card_type,
        "saving": number(price.saving),
        "newlyServed": list(price.newly_served),
        "noLongerServed": list(price.no_longer_served),
        "allocation": _allocation(price.allocation),
    }
