"""What is forecast shows in metrics and in the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controlloop.api.decision import Forecast
from controlloop.api.predictions import AsideReason, Prediction, SetAside
from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.daemon.forecast_metrics import count_forecast
from controlloop.daemon.recorder import Recorder
from controlloop.telemetry import Metrics

FORECAST = Forecast(
    {},
    predictions={
        "a": Prediction(180.0, "ensemble", 2.0, {0.5: 1.9, 0.95: 3.0}, {"holt": 0.2}, ("holt",)),
        "b": Prediction(180.0, "ensemble", 1.0, {0.5: 1.0, 0.95: 1.0}, {"holt": 0.4}),
        "c": Prediction(60.0),
    },
    set_aside=(SetAside("holt", AsideReason.WORSE, 1, "worse on 1 of 3 servers"),),
)


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"controlloop_{name}", labels)


def test_metrics_show_who_predicts_what_and_how_well() -> None:
    metrics = Metrics()
    count_forecast(metrics, FORECAST)
    assert shown(metrics, "forecast_servers", predictor="ensemble") == 2.0
    assert shown(metrics, "forecast_servers", predictor="none") == 1.0
    assert shown(metrics, "forecast_pinball_loss_rps", predictor="holt") == pytest.approx(0.3)
    told = {"predictor": "holt", "reason": "worse-than-last-value"}
    assert shown(metrics, "forecast_set_aside_servers", **told) == 1.0
    assert shown(metrics, "server_forecast_rps", server="a", level="0.95") == 3.0
    assert shown(metrics, "server_forecast_rps", server="a", level="mean") == 2.0
    assert shown(metrics, "server_forecast_rps", server="c", level="mean") is None
    assert shown(metrics, "server_forecast_horizon_seconds", server="c") == 60.0
    Recorder(metrics).record(CycleReport(1.0, (), forecast=Forecast({})), "test")
    assert shown(metrics, "forecast_set_aside_servers", **told) is None
    assert shown(metrics, "server_forecast_horizon_seconds", server="c") is None


def test_the_report_says_what_is_forecast() -> None:
    report = CycleReport(1.0, (), forecast=FORECAST)
    document = json.loads(json.dumps(report_document(report)))["forecast"]
    assert document["setAside"] == [
        {
            "predictor": "holt",
            "reason": "worse-than-last-value",
            "servers": 1,
            "detail": "worse on 1 of 3 servers",
        }
    ]
    assert document["servers"]["a"] == {
        "horizonSeconds": 180.0,
        "predictor": "ensemble",
        "arrivalRate": 120.0,
        "quantiles": {"0.5": pytest.approx(114.0), "0.95": 180.0},
        "pinballLoss": {"holt": 12.0},
        "setAside": ["holt"],
    }
    assert document["servers"]["c"]["predictor"] is None
    assert report_document(replace(report, forecast=None))["forecast"] is None
