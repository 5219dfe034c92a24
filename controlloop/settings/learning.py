"""The settings of what the loop learns: performance parameters, and the load ahead."""

from __future__ import annotations

from typing import Literal

from controlloop.api.predictions import PREDICTORS
from controlloop.settings.form import CONFIG_MAP, Section
from controlloop.settings.form import setting as _setting


class EstimatorSettings(Section):
    """Where performance parameters come from."""

    name: str = _setting(
        "configured",
        "estimator plug-in, or 'module:Factory'; `ekf` learns from what the servers show",
        off="configured: what the data files say",
    )
    mode: Literal["observe", "apply"] = _setting(
        "observe", "`observe` learns and reports, `apply` also plans with what is trusted"
    )
    confidence: float = _setting(
        0.0,
        "probability, 0 or from 0.5 to below 1, with which latency targets are to hold whatever "
        "the parameters are: learned ones that are planned with, and those whose data has "
        "`logCovariance`; `confidence` in the optimizer data takes precedence",
        "share",
        "0: planned with the parameters as they are",
        ge=0,
        lt=1,
    )
    state_file: str = _setting(
        "",
        "file that keeps what was learned over restarts; read and written by one process",
        off="empty: nothing is kept",
    )
    state_config_map: str = _setting(
        "",
        "ConfigMap, as namespace/name, that keeps it instead of a file; made where there is none, "
        "and not written in a dry run",
        off="empty: nothing is kept",
        pattern=CONFIG_MAP,
    )
    min_requests: float = _setting(
        3.0, "requests that an observation must rest on", "requests", ge=1
    )
    noise_floor: float = _setting(
        0.02,
        "relative error of an observed latency that no number of requests removes",
        "share",
        gt=0,
        le=0.5,
    )
    gate_probability: float = _setting(
        0.999,
        "probability with which an observation of a right model passes the outlier gate",
        "share",
        gt=0.5,
        lt=1,
    )
    speed_doubt: float = _setting(
        1.0,
        "how wrong all configured times may be together: standard deviation of the logarithm of "
        "a factor",
        "log",
        gt=0,
        le=5,
    )
    parameter_doubt: float = _setting(
        0.7,
        "how wrong each configured parameter may be by itself: standard deviation of its logarithm",
        "log",
        gt=0,
        le=5,
    )


class ForecasterSettings(Section):
    """How the load ahead is predicted."""

    name: str = _setting(
        "ensemble",
        "forecaster plug-in, or 'module:Factory'; `ensemble` mixes the predictors, one of them by "
        "its name stands alone, `last-value` only adds the headroom",
        off="last-value",
    )
    predictors: tuple[str, ...] = _setting(
        PREDICTORS,
        "predictors that the ensemble mixes, or 'module:Factory'; each is set aside on the servers "
        "where it does worse than the last value",
        strict=False,
        min_length=1,
    )
    quantile: float = _setting(
        0.9,
        "a server is sized for at least the arrival rate that is exceeded no oftener than 1 - this",
        "share",
        ge=0.5,
        lt=1,
    )
    startup_s: float = _setting(
        120.0,
        "time from a replica's start to serving where none was seen; the horizon is a period more",
        "s",
        ge=0,
        le=3600,
    )
    window: float = _setting(
        60.0,
        "forecasts over which predictors are scored; older ones fade",
        "forecasts",
        ge=10,
        le=10000,
    )
    budget_s: float = _setting(
        2.0, "time that one predictor may take; beyond it, it is set aside", "s", gt=0, le=60
    )
    state_file: str = _setting(
        "",
        "file that keeps what was seen of the load over restarts; read and written by one process",
        off="empty: nothing is kept",
    )
    state_config_map: str = _setting(
        "",
        "ConfigMap, as namespace/name, that keeps it instead of a file, as much of it as fits; "
        "made where there is none, and not written in a dry run",
        off="empty: nothing is kept",
        pattern=CONFIG_MAP,
    )
    warm_s: float = _setting(
        8 * 86_400.0,
        "how much of the past the metric source is asked for at a start without kept history; a "
        "season more than the weekly one needs",
        "s",
        "0",
        ge=0,
        le=15 * 86_400,
    )
    headroom: float = _setting(
        0.1,
        "share added to the measured arrival rate, to stand by for jumps; where more is predicted, "
        "that counts",
        "ratio",
        "0",
        ge=0,
        le=10,
    )
