"""Builds the cycle over a sensor and an actuator that are given: a simulation, a replay."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping

from controlloop.clock import Clock, SystemClock
from controlloop.composition.forecast import build_forecaster
from controlloop.composition.parts import build_estimator, build_planner
from controlloop.composition.policy import build_policy
from controlloop.composition.recording import ESTIMATOR, FORECASTER, POLICY
from controlloop.composition.switching import with_moves
from controlloop.cycle import Cycle, Parts
from controlloop.optimizer.planner import Planner
from controlloop.protocols import Actuator, Sensor, Source, StateStore
from controlloop.replay.memory_store import MemoryStore
from controlloop.replay.rerun import BuildCycle
from controlloop.settings.tree import Settings
from controlloop.simulator.demo import Engine


def demo_engine(settings: Settings) -> Engine:
    """The production parts that a simulated fleet is run by: all but sensor and actuator.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    optimizer = build_planner(settings, SystemClock())
    build = loop_builder(settings, optimizer, {})
    return Engine(build, optimizer)


def replay_builder(settings: Settings, state: Mapping[str, str]) -> BuildCycle:
    """The production cycle for a replay: all but source, sensor and actuator; it keeps no state.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    stores = {name: MemoryStore(b64decode(text)) for name, text in state.items()}
    return loop_builder(settings, build_planner(settings, SystemClock()), stores)


def loop_builder(
    settings: Settings, optimizer: Planner, stores: Mapping[str, StateStore]
) -> BuildCycle:
    """What makes a cycle of the production parts around a sensor and an actuator."""

    def build(source: Source, sensor: Sensor, actuator: Actuator, clock: Clock) -> Cycle:
        parts = Parts(
            source=source,
            sensor=sensor,
            estimator=build_estimator(settings, stores.get(ESTIMATOR)),
            forecaster=build_forecaster(settings, stores.get(FORECASTER)),
            policy=with_moves(settings, build_policy(settings, stores.get(POLICY)), optimizer),
            optimizer=optimizer,
            actuator=actuator,
        )
        return Cycle(parts, clock, settings.optimizer.drain_time_s)

    return build
