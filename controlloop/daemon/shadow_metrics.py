"""What a dry run found of its own decisions, as metrics."""

from __future__ import annotations

from controlloop.api.shadow import ServerShadow, ShadowScore
from controlloop.telemetry import Metrics


def count_shadow(metrics: Metrics, score: ShadowScore) -> None:
    """Show the score of a cycle; servers that are gone keep no value."""
    metrics.shadow_latency_ms.clear()
    metrics.shadow_rate_rps.clear()
    for server in score.servers:
        _show(metrics, server)
    for of, error in score.errors.items():
        metrics.shadow_error.labels(of).set(error.mean)
    if score.exceeded_share is not None:
        metrics.shadow_exceeded.set(score.exceeded_share)
    metrics.shadow_saved.set(score.saved_cents)


def _show(metrics: Metrics, server: ServerShadow) -> None:
    latencies = {
        ("itl", "predicted"): server.predicted_itl_ms,
        ("itl", "observed"): server.observed_itl_ms,
        ("ttft", "predicted"): server.predicted_ttft_ms,
        ("ttft", "observed"): server.observed_ttft_ms,
    }
    for (latency, which), time_ms in latencies.items():
        if time_ms is not None:
            metrics.shadow_latency_ms.labels(server.server, latency, which).set(time_ms)
    rates = {
        "expected": server.expected_rps,
        "sized": server.sized_rps,
        "measured": server.measured_rps,
    }
    for which, rate_rps in rates.items():
        if rate_rps is not None:
            metrics.shadow_rate_rps.labels(server.server, which).set(rate_rps)
