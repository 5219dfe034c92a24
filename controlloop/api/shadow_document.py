"""The score of a dry run as JSON: rates in requests/minute, times in ms, costs in cents."""

from __future__ import annotations

from typing import Any

from controlloop.api.allocation_document import number
from controlloop.api.shadow import ServerShadow, ShadowScore
from controlloop.units import rpm_from_rps


def shadow_document(score: ShadowScore) -> dict[str, Any]:
    """The score in JSON's values."""
    return {
        "since": score.since,
        "relativeErrors": {
            of: {"mean": number(each.mean), "count": each.count}
            for of, each in score.errors.items()
        },
        "exceededShare": score.exceeded_share,
        "savedCents": number(score.saved_cents),
        "servers": [_server(each) for each in score.servers],
    }


def _server(each: ServerShadow) -> dict[str, Any]:
    return {
        "server": each.server,
        "itl": {"predicted": each.predicted_itl_ms, "observed": each.observed_itl_ms},
        "ttft": {"predicted": each.predicted_ttft_ms, "observed": each.observed_ttft_ms},
        "arrivalRate": {
            "expected": _rpm(each.expected_rps),
            "sizedFor": _rpm(each.sized_rps),
            "measured": _rpm(each.measured_rps),
        },
        "cost": {"actual": each.actual_cost, "desired": each.desired_cost},
    }


def _rpm(rate_rps: float | None) -> float | None:
    return None if rate_rps is None else rpm_from_rps(rate_rps)
