"""What was learned of a pair as a JSON document."""

from __future__ import annotations

from typing import Any

from controlloop.api.estimates import PairEstimate


def estimate_document(pair: PairEstimate) -> dict[str, Any]:
    """The estimate in JSON's values; times in ms, standard errors of the logarithms."""
    last = pair.last
    errors = dict(zip(pair.parameter_names, pair.standard_errors, strict=True))
    return {
        "model": pair.model,
        "accelerator": pair.accelerator,
        "queueModel": pair.queue_model,
        "trust": str(pair.trust),
        "reason": pair.reason,
        "plannedWith": str(pair.origin),
        "parameters": dict(zip(pair.parameter_names, pair.parameters, strict=True)),
        "standardErrors": errors,
        "accepted": pair.accepted,
        "rejected": dict(pair.rejected),
        "last": None
        if last is None
        else {
            "time": last.time,
            "predictedTtft": last.predicted_ttft_ms,
            "observedTtft": last.observed_ttft_ms,
            "predictedItl": last.predicted_itl_ms,
            "observedItl": last.observed_itl_ms,
            "nis": last.nis,
        },
    }
