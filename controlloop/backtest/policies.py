"""The table of policies: a new one is one line here.

Each has one knob. A tuned policy's knob is chosen on training load; its frontier is what it gets
for what cost as the knob is turned. Knobs go from what is cheapest to what is safest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.backtest.capability import Capability
from controlloop.backtest.controllers import Autoscalers, Controller, Loop
from controlloop.backtest.foresight import Clairvoyant, cheapest_plan, needs
from controlloop.backtest.hpa import SYNC_PERIOD_S, PodsHpa, RateHpa
from controlloop.backtest.kpa import TICK_S, Kpa
from controlloop.backtest.scenario import Scenario
from controlloop.backtest.view import Autoscaler, ServerView
from controlloop.clock import ManualClock
from controlloop.errors import InputError, Problem, SettingsError
from controlloop.settings.file import assigned_overrides, read_settings
from controlloop.settings.tree import Settings
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.demo import Engine
from controlloop.simulator.plant import Plant
from controlloop.simulator.sensor import PlantSensor
from controlloop.simulator.simulation import FixedSource

CHANGES_PER_HOUR: Final = 6.0
PEAK_WINDOW_S: Final = 300.0
PLAN_PERIOD_S: Final = 30.0
# Load within a period of a plan is the most of any so long a part of it.
PLAN_GRAIN_S: Final = 10.0
STEP_S: Final = 5.0
LOOP: Final = "loop"
# Never too slow: how long a forecast takes here says nothing of how it would do.
UNHURRIED: Final = MappingProxyType({"forecaster.budget_s": 60.0})

# Builds the production loop's parts for settings.
EngineOf = Callable[[Settings], Engine]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What a policy is put on: a plant, its scenario, and the load that it was trained on."""

    plant: Plant
    scenario: Scenario
    training: Callable[[], Scenario]
    engine_of: EngineOf


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of the table.

    Attributes:
        name: what it is asked for by.
        meaning: one line.
        knob: what is turned.
        knobs: its values, from the cheapest to the safest.
        build: puts it on a stage at a value of its knob.
        fixed: the knob it is judged at without tuning; None is tuned.
        step_s: the plant's steps, at whose ends it acts.

    """

    name: str
    meaning: str
    knob: str
    knobs: tuple[float, ...]
    build: Callable[[Stage, float], Controller]
    fixed: float | None = None
    step_s: float = STEP_S

    @property
    def is_tuned(self) -> bool:
        """Whether its knob is chosen on training load."""
        return self.fixed is None


def policies() -> tuple[Policy, ...]:
    """Every policy that has a name."""
    shares = (1.0, 0.85, 0.7, 0.5, 0.3)
    return (
        loop_policy(LOOP),
        replace(
            loop_policy(LOOP),
            name="loop-tuned",
            meaning="this loop, its headroom chosen on training load",
            fixed=None,
        ),
        Policy(
            "hpa-concurrency",
            "Kubernetes' autoscaler on requests in flight a replica",
            "target, in what a replica holds at its objectives",
            shares,
            _hpa_concurrency,
        ),
        Policy(
            "hpa-queue",
            "Kubernetes' autoscaler on requests waiting a replica",
            "target, in requests",
            (16.0, 4.0, 1.0, 0.25),
            _hpa_queue,
        ),
        Policy(
            "keda-rate",
            "Kubernetes' autoscaler on requests/s over a minute, as KEDA sets it up",
            "threshold, in what a replica serves at its objectives",
            shares,
            _keda_rate,
        ),
        Policy(
            "kpa",
            "Knative's autoscaler: stable and panic windows of concurrency",
            "target, in what a replica holds at its objectives",
            shares,
            _kpa,
            step_s=TICK_S,
        ),
        Policy(
            "static-peak",
            "replicas for the busiest five minutes of the training load, always",
            "load, in that peak",
            (0.7, 0.85, 1.0, 1.3, 1.7),
            _static_peak,
        ),
        Policy(
            "clairvoyant",
            "knows the load to come; the cheapest plan with 6 changes an hour that covers it",
            "load, in what comes",
            (0.85, 0.95, 1.1, 1.4, 2.0),
            _clairvoyant,
        ),
    )


HEADROOM: Final = "forecaster.headroom"
HEADROOMS: Final = (0.0, 0.1, 0.3, 0.6, 1.2)


def loop_policy(name: str) -> Policy:
    """This loop: `loop`, or `loop:section.name=value,...` under other settings.

    Raises:
        SettingsError: every problem of the settings.

    """
    overrides = assigned_overrides([one for one in name.partition(":")[2].split(",") if one])
    settings = read_settings("", name, overrides)
    shown = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return Policy(
        name,
        f"this loop with {shown}" if shown else "this loop with its default settings",
        HEADROOM,
        HEADROOMS,
        partial(_loop, overrides, HEADROOM),
        fixed=settings.forecaster.headroom,
    )


def named_policies(names: list[str]) -> tuple[Policy, ...]:
    """The policies of these names, in their order, each once; none is every one.

    Raises:
        InputError: every name that is not known, and every bad setting.

    """
    known = {one.name: one for one in policies()}
    if not names:
        return tuple(known.values())
    found: dict[str, Policy] = {}
    problems: list[Problem] = []
    for name in names:
        if name in known:
            found[name] = known[name]
        elif name.startswith(f"{LOOP}:"):
            try:
                found[name] = loop_policy(name)
            except SettingsError as error:
                problems.extend(error.problems)
        else:
            known_names = ", ".join(known)
            rule = f"must be one of {known_names}, or {LOOP}:section.name=value,..."
            problems.append(Problem("--policy", rule, name))
    if problems:
        raise InputError(problems)
    return tuple(found.values())


def _loop(overrides: Mapping[str, object], turned: str, stage: Stage, knob: float) -> Controller:
    settings = read_settings("", "", {**UNHURRIED, **overrides, turned: knob})
    clock = ManualClock()
    scenario, plant = stage.scenario, stage.plant
    loop = stage.engine_of(settings).build_loop(
        FixedSource(scenario.catalog),
        PlantSensor(plant, scenario.servers, window_s=settings.collector.window_s),
        PlantActuator(plant),
        clock,
    )
    return Loop(loop, clock, settings.cycle.period_s)


def _hpa_concurrency(stage: Stage, knob: float) -> Controller:
    return _each(
        stage, SYNC_PERIOD_S, lambda able: PodsHpa(_in_flight, max(knob * able.in_flight, 1.0))
    )


def _hpa_queue(stage: Stage, knob: float) -> Controller:
    return _each(stage, SYNC_PERIOD_S, lambda _: PodsHpa(_waiting, knob))


def _keda_rate(stage: Stage, knob: float) -> Controller:
    return _each(stage, SYNC_PERIOD_S, lambda able: RateHpa(knob * able.rate_rps))


def _kpa(stage: Stage, knob: float) -> Controller:
    return _each(stage, TICK_S, lambda able: Kpa(max(knob * able.in_flight, 1.0)))


def _static_peak(stage: Stage, knob: float) -> Controller:
    training = stage.training()
    rates = training.rates_rps(PEAK_WINDOW_S)
    whole = max(math.floor(training.to_s / PEAK_WINDOW_S), 1)
    peaks = dict(
        zip((one.name for one in training.servers), rates[:whole].max(axis=0), strict=True)
    )
    able = _able(stage.scenario)
    plans = {
        name: Clairvoyant(np.array([able[name].replicas(knob * float(peak))]), math.inf)
        for name, peak in peaks.items()
    }
    return Autoscalers(stage.plant, plans, stage.scenario.to_s)


def _clairvoyant(stage: Stage, knob: float) -> Controller:
    scenario = stage.scenario
    rates = _peaks(scenario) * knob
    changes = math.floor(CHANGES_PER_HOUR * scenario.to_s / 3600.0)
    plans = {}
    for column, (server, able) in enumerate(
        zip(scenario.servers, scenario.capability, strict=True)
    ):
        ahead = math.ceil(server.startup_s / PLAN_PERIOD_S - 1e-9)
        need = needs(rates[:, column], able.rate_rps, ahead)
        plans[server.name] = Clairvoyant(cheapest_plan(need, changes), PLAN_PERIOD_S)
    return Autoscalers(stage.plant, plans, PLAN_PERIOD_S)


def _peaks(scenario: Scenario) -> FloatArray:
    """The greatest rate within each period of a plan, in requests/s: (periods, servers)."""
    rates = scenario.rates_rps(PLAN_GRAIN_S)
    starts = np.arange(0, len(rates), round(PLAN_PERIOD_S / PLAN_GRAIN_S))
    return np.asarray(np.maximum.reduceat(rates, starts, axis=0), dtype=np.float64)


def _each(stage: Stage, period_s: float, make: Callable[[Capability], Autoscaler]) -> Controller:
    autoscalers = {name: make(able) for name, able in _able(stage.scenario).items()}
    return Autoscalers(stage.plant, autoscalers, period_s)


def _able(scenario: Scenario) -> Mapping[str, Capability]:
    names = (one.name for one in scenario.servers)
    return dict(zip(names, scenario.capability, strict=True))


def _in_flight(view: ServerView) -> float:
    return view.in_flight


def _waiting(view: ServerView) -> float:
    return view.waiting
