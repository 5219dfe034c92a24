"""What was learned, as metrics."""

from __future__ import annotations

from controlloop.api.decision import Estimate
from controlloop.api.estimates import PairEstimate
from controlloop.telemetry import Metrics

UNKNOWN_PAIR = "unknown-pair"


def count_estimates(metrics: Metrics, estimate: Estimate) -> None:
    """Show the estimates of a cycle; what is no longer estimated keeps no value."""
    gauges = (
        metrics.tuner_parameter,
        metrics.tuner_error,
        metrics.tuner_trust,
        metrics.tuner_nis,
        metrics.tuner_observations,
        metrics.tuner_latency_ms,
    )
    for gauge in gauges:
        gauge.clear()
    for pair in estimate.pairs:
        _show(metrics, pair)
    for (model, accelerator), count in estimate.unknown.items():
        metrics.tuner_observations.labels(model, accelerator, UNKNOWN_PAIR).set(count)


def _show(metrics: Metrics, pair: PairEstimate) -> None:
    labels = (pair.model, pair.accelerator)
    for name, value, error in zip(
        pair.parameter_names, pair.parameters, pair.standard_errors, strict=True
    ):
        metrics.tuner_parameter.labels(*labels, name).set(value)
        metrics.tuner_error.labels(*labels, name).set(error)
    metrics.tuner_trust.labels(*labels, str(pair.trust)).set(1)
    metrics.tuner_observations.labels(*labels, "accepted").set(pair.accepted)
    for reason, count in pair.rejected.items():
        metrics.tuner_observations.labels(*labels, reason).set(count)
    if pair.last is None:
        return
    metrics.tuner_nis.labels(*labels).set(pair.last.nis)
    shown = {
        ("ttft", "predicted"): pair.last.predicted_ttft_ms,
        ("ttft", "observed"): pair.last.observed_ttft_ms,
        ("itl", "predicted"): pair.last.predicted_itl_ms,
        ("itl", "observed"): pair.last.observed_itl_ms,
    }
    for (latency, which), time_ms in shown.items():
        if time_ms is not None:
            metrics.tuner_latency_ms.labels(*labels, latency, which).set(time_ms)
