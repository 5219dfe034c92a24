"""What is forecast, and how well that did, as metrics."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

from controlloop.api.decision import Forecast
from controlloop.telemetry import Metrics

NONE = "none"
"""In the place of a predictor: too little was seen to predict."""


def count_forecast(metrics: Metrics, forecast: Forecast) -> None:
    """Show the forecast of a cycle; what is no longer so keeps no value."""
    for gauge in (
        metrics.forecast_servers,
        metrics.forecast_loss,
        metrics.forecast_aside,
        metrics.forecast_rps,
        metrics.forecast_horizon_s,
    ):
        gauge.clear()
    chosen = Counter(one.predictor or NONE for one in forecast.predictions.values())
    for predictor, servers in chosen.items():
        metrics.forecast_servers.labels(predictor).set(servers)
    losses: dict[str, list[float]] = {}
    for server, one in forecast.predictions.items():
        metrics.forecast_horizon_s.labels(server).set(one.horizon_s)
        if one.mean_rps is not None:
            metrics.forecast_rps.labels(server, "mean").set(one.mean_rps)
        for level, rate_rps in one.quantiles_rps.items():
            metrics.forecast_rps.labels(server, f"{level:g}").set(rate_rps)
        for predictor, loss_rps in one.losses_rps.items():
            losses.setdefault(predictor, []).append(loss_rps)
    for predictor, found in losses.items():
        metrics.forecast_loss.labels(predictor).set(fmean(found))
    for aside in forecast.set_aside:
        metrics.forecast_aside.labels(aside.predictor, str(aside.reason)).set(aside.servers)
