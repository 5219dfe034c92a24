"""Builds the parts that think: estimator, planner; and finds choices that cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

from controlloop.clock import Clock
from controlloop.collector.dialects import vocabulary_of
from controlloop.collector.prometheus import check_url
from controlloop.composition.forecast import build_forecaster
from controlloop.composition.policy import build_policy
from controlloop.errors import InputError, Problem, UnknownPluginError
from controlloop.optimizer.planner import Planner
from controlloop.optimizer.solvers import solvers
from controlloop.protocols import Estimator, StateStore
from controlloop.queueing.models import queue_models
from controlloop.settings.tree import Settings
from controlloop.tuner.belief import Doubt
from controlloop.tuner.ekf import EkfOptions
from controlloop.tuner.estimators import EKF, estimators
from controlloop.tuner.measurement import Rules
from controlloop.tuner.noise import Noise
from controlloop.tuner.tuning import Tuning


def bad_choices(settings: Settings, but: Collection[str] = ()) -> Iterator[Problem]:
    """What `build_daemon` would refuse of these settings, found without a cluster.

    Nothing is tried of the sections in `but`.
    """
    tries: dict[str, Callable[[], object]] = {
        "collector.dialects": lambda: vocabulary_of(settings.collector.dialects),
        "optimizer.solver": lambda: known_solver(settings.optimizer.solver),
        "optimizer.queue_model": lambda: known_queue_model(settings.optimizer.queue_model),
        "estimator.name": lambda: build_estimator(settings),
        "forecaster.name": lambda: build_forecaster(settings),
        "stability.name": lambda: build_policy(settings),
    }
    if settings.prometheus.url:
        tries["prometheus.url"] = partial(check_url, settings.prometheus.url)
    for setting, build in tries.items():
        if setting.partition(".")[0] in but:
            continue
        try:
            build()
        except InputError as error:
            yield from error.problems
        except UnknownPluginError as error:
            yield Problem(setting, str(error))


def build_planner(settings: Settings, clock: Clock) -> Planner:
    """The optimizer of the loop.

    Raises:
        UnknownPluginError: no such solver.

    """
    chosen = settings.optimizer
    return Planner(
        clock=clock,
        solver=known_solver(chosen.solver),
        time_limit_s=chosen.time_limit_s,
        gap=chosen.gap,
        confidence=settings.estimator.confidence,
        siblings=settings.actuator.siblings,
    )


def known_solver(name: str) -> str:
    """The name, if it can be had: found out at start, not in the first cycle."""
    if name:
        solvers().create(name)
    return name


def known_queue_model(name: str) -> str:
    """The name, if it can be had.

    Raises:
        UnknownPluginError: no such queue model, or what has that name is none.

    """
    queue_models().create(name)
    return name


def build_estimator(settings: Settings, store: StateStore | None = None) -> Estimator:
    """The estimator, with what it kept in `store`.

    Raises:
        UnknownPluginError: no such estimator.

    """
    chosen = settings.estimator
    if chosen.name != EKF:
        return estimators().create(chosen.name)
    tuning = Tuning(
        doubt=Doubt(common=chosen.speed_doubt, own=chosen.parameter_doubt),
        noise=Noise(floor=chosen.noise_floor),
        rules=Rules(min_requests=chosen.min_requests),
        gate=chosen.gate_probability,
    )
    options = EkfOptions(
        apply=chosen.mode == "apply", window_s=settings.collector.window_s, tuning=tuning
    )
    return estimators().create(EKF, queue_models(), options, store)
