"""What is forecast as JSON values; rates in requests/minute, times in s."""

from __future__ import annotations

from typing import Any

from controlloop.api.predictions import Prediction, SetAside
from controlloop.units import rpm_from_rps


def prediction_document(one: Prediction) -> dict[str, Any]:
    """What is expected of one server; `predictor` is null while too little was seen."""
    return {
        "horizonSeconds": one.horizon_s,
        "predictor": one.predictor or None,
        "arrivalRate": None if one.mean_rps is None else rpm_from_rps(one.mean_rps),
        "quantiles": {
            f"{level:g}": rpm_from_rps(rate) for level, rate in one.quantiles_rps.items()
        },
        "pinballLoss": {name: rpm_from_rps(loss) for name, loss in one.losses_rps.items()},
        "setAside": list(one.set_aside),
    }


def set_aside_document(one: SetAside) -> dict[str, Any]:
    """A predictor that is not used."""
    return {
        "predictor": one.predictor,
        "reason": str(one.reason),
        "servers": one.servers,
        "detail": one.detail,
    }
