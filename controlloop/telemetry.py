"""Logs and own metrics: the set-up of structlog, and every metric's name and meaning."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controlloop.settings.tree import LogSettings

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
STAGE_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)


def set_up_logs(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structured logs to `stream` (standard error), one event a line."""
    out = stream or sys.stderr
    as_console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            # The plain one: others print the variables of each frame, a credential among them.
            colors=out.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
        if as_console
        else structlog.processors.JSONRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if as_console else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    # Libraries that log for themselves are heard only when something is wrong, in the same form.
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class Metrics:
    """The daemon's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.cycles = Counter(
            "controlloop_cycles",
            "Cycles run, by outcome (done, failed) and by what asked for them",
            ["outcome", "trigger"],
            registry=self.registry,
        )
        self.failures = Counter(
            "controlloop_cycle_failures",
            "Cycles that a failed stage ended",
            ["stage", "error"],
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "controlloop_stage_seconds",
            "Time of each stage of a cycle",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.last_cycle = self._gauge(
            "last_cycle_timestamp_seconds", "When the last cycle that was done began"
        )
        self.leader = self._gauge("leader", "1 while this process holds the lease")
        self.data_problem = self._gauge(
            "data_problem", "1 while the data in force is not what is on disk"
        )
        self.metrics_problem = self._gauge(
            "metric_source_problem", "1 while the metric source does not answer"
        )
        self.decisions = Counter(
            "controlloop_decisions",
            "Decisions by action",
            ["action"],
            registry=self.registry,
        )
        self.holds = self._gauge(
            "holds", "Holds in force after the last cycle, by reason", "reason", "forbids"
        )
        self.troubles = self._gauge(
            "trouble", "1 while something keeps the whole loop from working as it should", "kind"
        )
        self.moments = Counter(
            "controlloop_moments",
            "What happened to the whole loop: LeaseTaken, ClockJumped, StateSetAside",
            ["kind"],
            registry=self.registry,
        )
        self.interventions = self._gauge(
            "interventions",
            "1 while a server is left alone because somebody else sets it: manual, reverting",
            "server",
            "manager",
            "kind",
        )
        self.patches = Counter(
            "controlloop_patches",
            "Patches by how they ended, and by the kind of error that ended them",
            ["status", "error"],
            registry=self.registry,
        )
        self.switch_steps = Counter(
            "controlloop_switch_steps",
            "Steps of switches that were made: begin, leave, end, undo, undone",
            ["step"],
            registry=self.registry,
        )
        self.replicas = self._gauge(
            "server_replicas", "Replicas of a server: current and desired", "server", "which"
        )
        self.load_rps = self._gauge(
            "server_arrival_rate_rps", "Arrival rate a server is sized for, requests/s", "server"
        )
        self.cost = self._gauge(
            "server_cost_cents_per_hour",
            "Cost of a server's allocation: current and desired, cents/h",
            "server",
            "which",
        )
        self.predicted_ms = self._gauge(
            "server_predicted_milliseconds",
            "Predicted latency of the desired allocation, ms",
            "server",
            "latency",
        )
        pair = ("model", "accelerator")
        self.tuner_parameter = self._gauge(
            "tuner_parameter", "A performance parameter as learned", *pair, "parameter"
        )
        self.tuner_error = self._gauge(
            "tuner_parameter_standard_error",
            "Standard error of the logarithm of a performance parameter",
            *pair,
            "parameter",
        )
        self.tuner_trust = self._gauge(
            "tuner_trust", "1 for the verdict on what was learned of a pair", *pair, "trust"
        )
        self.tuner_nis = self._gauge(
            "tuner_nis", "Normalised innovation squared of the last observation, per latency", *pair
        )
        self.tuner_observations = self._gauge(
            "tuner_observations", "Observations: accepted, or why each was not", *pair, "outcome"
        )
        self.tuner_latency_ms = self._gauge(
            "tuner_latency_milliseconds",
            "Latency of the last interval: observed, and as predicted before it was learned, ms",
            *pair,
            "latency",
            "which",
        )
        self.forecast_servers = self._gauge(
            "forecast_servers", "Servers by the predictor whose quantiles are used", "predictor"
        )
        self.forecast_loss = self._gauge(
            "forecast_pinball_loss_rps",
            "Recent pinball loss at the horizon, mean over servers, requests/s",
            "predictor",
        )
        self.forecast_aside = self._gauge(
            "forecast_set_aside_servers",
            "Servers on which a predictor is not used, by reason",
            "predictor",
            "reason",
        )
        self.forecast_rps = self._gauge(
            "server_forecast_rps",
            "Arrival rate expected at the horizon: mean and quantiles, requests/s",
            "server",
            "level",
        )
        self.forecast_horizon_s = self._gauge(
            "server_forecast_horizon_seconds",
            "Time from a decision to its effect: a period and a start-up",
            "server",
        )
        self.shadow_latency_ms = self._gauge(
            "shadow_latency_milliseconds",
            "Dry run: latency of what serves, predicted for the measured load and observed, ms",
            "server",
            "latency",
            "which",
        )
        self.shadow_rate_rps = self._gauge(
            "shadow_arrival_rate_rps",
            "Dry run: arrival rate expected for now, sized for then, and measured, requests/s",
            "server",
            "which",
        )
        self.shadow_error = self._gauge(
            "shadow_relative_error",
            "Dry run: mean of |predicted - observed| / observed since the start: itl, ttft, rate",
            "of",
        )
        self.shadow_exceeded = self._gauge(
            "shadow_exceeded_share",
            "Dry run: share of measured arrival rates above what had been sized for",
        )
        self.shadow_saved = self._gauge(
            "shadow_saved_cents",
            "Dry run: cost since the start of what runs less that of what would run, cents",
        )
        self.capacity = self._gauge(
            "capacity_cards", "Cards by accelerator type that may be used", "type"
        )

    @property
    def every(self) -> tuple[Counter | Gauge | Histogram, ...]:
        """All metrics, in the order of their making."""
        return tuple(
            value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram)
        )

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"controlloop_{name}", meaning, labels, registry=self.registry)
