"""A queue model's parameters from measured sweeps, and how well they predict unseen shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np

from controlloop.api.replicas import FloatArray, Percentiles, Replicas
from controlloop.queueing.benchmark_runs import (
    RunPrediction,
    RunTimes,
    predict_runs,
    run_percentiles,
)
from controlloop.queueing.models import default_max_queue
from controlloop.tuner.fit import Fit, Prior, fit, weighted_error
from controlloop.tuner.sweeps import PERCENTILES, Role, Sweeps

CONNECT_MS: Final = "connect_ms"
"""What it costs the benchmark's client to open a connection: fitted along, no server's."""

# Magnitudes for a model of 8e9 parameters on one large card; a fit may go far from them.
PRIORS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "state-dependent": {
            "alpha_ms": 7.0,
            "beta_ms": 0.05,
            "gamma_ms": 15.0,
            "delta_ms": 1e-3,
        },
        "mm1k": {"alpha_ms": 7.0, "beta_ms": 0.05, "gamma_ms": 15.0, "delta_ms": 1e-3},
        "iteration-time": {"alpha_ms": 7.0, "beta_ms": 0.02, "gamma_ms": 4e-5},
        "roofline": {
            "weights_ms": 6.0,
            "sequence_ms": 0.02,
            "context_ms": 4e-5,
            "token_ms": 0.02,
            "request_ms": 6.0,
            "stream_ms": 0.05,
            "kv_tokens": 4.2e5,
        },
    }
)
CONNECT_PRIOR_MS: Final = 8.0

# Of constant runs below the top, of the saturated and of the synchronous one. The top run lies
# so near to saturation that it shows the run's length more than the server: it is never fitted.
WEIGHTS: Final[Mapping[int, float]] = MappingProxyType(
    {Role.CONSTANT: 1.0, Role.SATURATED: 0.5, Role.SYNCHRONOUS: 0.3, Role.TOP: 0.0}
)
# An error of ITL is paid for with each token.
ITL_WEIGHT: Final = 1.5


class RunModel(Protocol):
    """A queue model whose service times can predict benchmark runs."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of its parameters."""
        ...

    def times(self, replicas: Replicas) -> RunTimes:
        """Service times of n replicas."""
        ...


def prior_of(model: RunModel, values: Mapping[str, float] | None = None) -> Prior:
    """The prior of a model's parameters and of the client's connection.

    Args:
        model: the model.
        values: likely values by name; None are those of `PRIORS`.

    Raises:
        ValueError: no value is known for a parameter.

    """
    known = PRIORS.get(model.name, {}) if values is None else values
    missing = [name for name in model.parameter_names if name not in known]
    if missing:
        raise ValueError(f'no prior of {", ".join(missing)} of queue model "{model.name}"')
    numbers = [known[name] for name in model.parameter_names]
    names = (*model.parameter_names, CONNECT_MS)
    return Prior(names, np.array([*numbers, known.get(CONNECT_MS, CONNECT_PRIOR_MS)]))


def fit_sweeps(model: RunModel, sweeps: Sweeps, prior: Prior | None = None) -> Fit:
    """The parameters of `model`, with `CONNECT_MS` last, that predict `sweeps` best."""
    weight = np.array([WEIGHTS[role] for role in sweeps.role.tolist()])
    used = sweeps.take(weight > 0)
    weight = weight[weight > 0]

    def predict(values: FloatArray) -> FloatArray:
        found = predict_sweeps(model, values, used)
        return np.concatenate([found.ttft_ms, found.itl_ms])

    return fit(
        predict,
        np.concatenate([used.ttft_ms, used.itl_ms]),
        prior_of(model) if prior is None else prior,
        np.concatenate([weight, ITL_WEIGHT * weight]),
    )


def predict_sweeps(model: RunModel, values: FloatArray, sweeps: Sweeps) -> RunPrediction:
    """What `model` predicts for each run with parameters `values`, `CONNECT_MS` last."""
    return predict_runs(_times(model, values, sweeps), sweeps.runs, float(values[-1]))


def sweep_percentiles(
    model: RunModel, values: FloatArray, sweeps: Sweeps, output_cv: float
) -> Percentiles:
    """The percentiles that `model` predicts for the constant runs, at `PERCENTILES`."""
    times = _times(model, values, sweeps)
    return run_percentiles(
        times, sweeps.runs, PERCENTILES, output_cv=output_cv, connect_ms=float(values[-1])
    )


def _times(model: RunModel, values: FloatArray, sweeps: Sweeps) -> RunTimes:
    replicas = Replicas(
        max_batch=sweeps.max_batch,
        max_queue=default_max_queue(sweeps.max_batch),
        input_tokens=sweeps.input_tokens,
        output_tokens=sweeps.output_tokens,
        parameters=np.broadcast_to(values[:-1], (len(sweeps), len(values) - 1)),
    )
    return model.times(replicas)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Predictions of each shape by parameters that never saw it.

    Attributes:
        sweeps: what was measured.
        ttft_ms: (n,) predicted.
        itl_ms: (n,) predicted.
        fits: the fit without each shape, by shape.

    """

    sweeps: Sweeps
    ttft_ms: FloatArray
    itl_ms: FloatArray
    fits: Mapping[str, Fit]

    def errors(self, *roles: Role) -> tuple[float, float]:
        """Weighted absolute percentage errors of TTFT and ITL over the runs of `roles`."""
        rows = np.isin(self.sweeps.role, roles)
        return (
            weighted_error(self.ttft_ms[rows], self.sweeps.ttft_ms[rows]),
            weighted_error(self.itl_ms[rows], self.sweeps.itl_ms[rows]),
        )


def leave_one_shape_out(
    model: RunModel,
    sweeps: Sweeps,
    fit_others: Callable[[RunModel, Sweeps], Fit] = fit_sweeps,
) -> HeldOut:
    """Fit all shapes but one and predict that one, in turn.

    Args:
        model: the queue model.
        sweeps: two shapes at least.
        fit_others: fits a model to sweeps; it is given the others only.

    """
    ttft_ms, itl_ms = np.full(len(sweeps), np.nan), np.full(len(sweeps), np.nan)
    fits = {}
    for shape in np.unique(sweeps.shape).tolist():
        own = np.flatnonzero(sweeps.shape == shape)
        others = np.flatnonzero(sweeps.shape != shape)
        found = fit_others(model, sweeps.take(others))
        predicted = predict_sweeps(model, found.values, sweeps.take(own))
        ttft_ms[own], itl_ms[own] = predicted.ttft_ms, predicted.itl_ms
        fits[sweeps.shapes[shape]] = found
    return HeldOut(sweeps, ttft_ms, itl_ms, fits)
