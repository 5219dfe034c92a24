"""Builds what keeps the state of the daemon's parts over restarts, and what it is kept in."""

from __future__ import annotations

from pathlib import Path

from controlloop.actuator.attention import Attention
from controlloop.actuator.interventions import InterventionOptions
from controlloop.composition.recording import ESTIMATOR, FORECASTER, INTERVENTIONS, POLICY, Stores
from controlloop.kube.connection import Connection
from controlloop.kube.state_config_map import ConfigMapName, ConfigMapStateStore
from controlloop.protocols import StateStore
from controlloop.settings.tree import Settings
from controlloop.tuner.state_file import FileStateStore


def build_stores(settings: Settings, connection: Connection) -> Stores:
    """Where each part keeps its state: in a file, in a ConfigMap, or nowhere."""
    kept = {
        ESTIMATOR: (settings.estimator.state_file, settings.estimator.state_config_map),
        POLICY: (settings.stability.state_file, settings.stability.state_config_map),
        FORECASTER: (settings.forecaster.state_file, settings.forecaster.state_config_map),
        INTERVENTIONS: (settings.actuator.state_file, settings.actuator.state_config_map),
    }
    return {
        part: FileStateStore(Path(file)) if file else _config_map(settings, connection, config_map)
        for part, (file, config_map) in kept.items()
    }


def config_maps(settings: Settings) -> tuple[str, ...]:
    """Every ConfigMap that state is kept in, as namespace/name."""
    sections = (settings.estimator, settings.forecaster, settings.stability, settings.actuator)
    return tuple(dict.fromkeys(one.state_config_map for one in sections if one.state_config_map))


def build_attention(settings: Settings, store: StateStore | None) -> Attention:
    """What notices the changes of others, and lets them be for the time that is set."""
    chosen = settings.actuator
    options = InterventionOptions(
        respect_s=chosen.respect_s,
        revert_limit=chosen.revert_limit,
        revert_window_s=chosen.revert_window_s,
        revert_backoff_s=chosen.revert_backoff_s,
    )
    return Attention(options, store)


def _config_map(settings: Settings, connection: Connection, named: str) -> StateStore | None:
    if not named:
        return None
    namespace, _, name = named.partition("/")
    return ConfigMapStateStore(
        connection,
        ConfigMapName(namespace, name),
        settings.cluster.request_timeout_s,
        writes=settings.actuator.mode == "apply",
    )
