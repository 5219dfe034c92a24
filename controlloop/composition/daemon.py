"""The only place that reads the environment, builds objects and chooses plug-ins."""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.attention import AttentiveActuator, AttentiveSensor
from controlloop.actuator.maintenance import MaintenanceSwitch
from controlloop.actuator.options import ActuatorOptions, Mode
from controlloop.clock import Clock, SystemClock
from controlloop.collector.dialects import vocabulary_of
from controlloop.collector.prometheus import check_url
from controlloop.cycle import Cycle, Parts
from controlloop.daemon.doctor import Doctor
from controlloop.daemon.recorder import Recorder
from controlloop.daemon.runner import Runner
from controlloop.daemon.service import Service, Timing
from controlloop.daemon.troubles import Announcer, ToldStore, WriteEvent
from controlloop.errors import (
    InputError,
    Problem,
    SettingsError,
    UnknownPluginError,
)
from controlloop.forecast_composition import build_forecaster
from controlloop.kube.access import ApiAccount, Needs, rights
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import Connection, ConnectionOptions, connect
from controlloop.kube.custom import CustomResources
from controlloop.kube.informers import Informers
from controlloop.kube.lease import Lease, LeaseKeeper, LeaseOptions
from controlloop.kube.nodes import NodeOptions
from controlloop.kube.resources import Resource, kind_at
from controlloop.optimizer.planner import Planner
from controlloop.optimizer.present import predict_present
from controlloop.optimizer.solvers import solvers
from controlloop.policy_composition import build_policy
from controlloop.protocols import (
    Actuator,
    Estimator,
    Sensor,
    Source,
    StateStore,
)
from controlloop.queueing.models import queue_models
from controlloop.recording_composition import (
    ESTIMATOR,
    FORECASTER,
    INTERVENTIONS,
    POLICY,
    daemon_cycle,
    recorded_stores,
    unwritten,
)
from controlloop.replay.memory_store import MemoryStore
from controlloop.replay.rerun import BuildCycle
from controlloop.rest.endpoints import daemon_app
from controlloop.rest.server import HttpServer
from controlloop.runtime_controller.source import CustomResourceSource
from controlloop.sensor_composition import build_past, build_sensor
from controlloop.settings import Settings
from controlloop.settings_file import Examined, environment_overrides, examine_settings
from controlloop.settings_rules import LEASE_MARGIN_S
from controlloop.shadow import Shadow
from controlloop.simulator.demo import Engine
from controlloop.source import FolderSource
from controlloop.state_composition import build_attention, build_stores, config_maps
from controlloop.switching_composition import (
    live_templates,
    switch_options,
    templates_of,
    with_moves,
)
from controlloop.telemetry import Metrics, set_up_logs
from controlloop.tuner.belief import Doubt
from controlloop.tuner.ekf import EkfOptions
from controlloop.tuner.estimators import EKF, estimators
from controlloop.tuner.measurement import Rules
from controlloop.tuner.noise import Noise
from controlloop.tuner.tuning import Tuning

SETTINGS_FILE: Final = "settings.yaml"
MOST_FOR_AN_EVENT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """Which cluster: a kubeconfig and its context; None is what a client would take by itself."""

    kubeconfig: Path | None = None
    context: str | None = None


def load_settings(config: Path, overrides: Mapping[str, object]) -> Settings:
    """Settings of a configuration folder, then of the environment, then `overrides`.

    Raises:
        SettingsError: the folder or file cannot be read, or every problem found in them.

    """
    found = examine_config(config, overrides)
    if found.problems:
        raise SettingsError(found.problems)
    return found.settings


def examine_config(config: Path, overrides: Mapping[str, object]) -> Examined:
    """The same, with what is bad of them beside what is good.

    Raises:
        SettingsError: the folder or file cannot be read, or is no tree of sections.

    """
    if not config.is_dir():
        raise SettingsError([Problem("", "is not a folder with settings.yaml")], str(config))
    path = config / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem("", f"cannot be read: {error}")], str(path)) from error
    try:
        of_environment = environment_overrides(os.environ)
        problems: tuple[Problem, ...] = ()
    except SettingsError as error:
        of_environment = {}
        problems = tuple(replace(each, source=error.source) for each in error.problems)
    found = examine_settings(text, str(path), of_environment | dict(overrides))
    return replace(found, problems=found.problems + problems)


def data_folder(settings: Settings, config: Path) -> Path:
    """Where the data files are."""
    return config / settings.data.directory


def build_daemon(
    settings: Settings, config: Path, choice: ClusterChoice, *, looking: bool = False
) -> Runner:
    """The daemon over a real cluster, for `run` or for `run_once`.

    Args:
        settings: all of them.
        config: the folder that the data is relative to.
        choice: which cluster.
        looking: what was learned is read and never written: its files are another process's.

    Raises:
        InputError: the data files are bad: every problem of them. Only a daemon that runs has
            good data from before to go on with.
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    set_up_logs(settings.log)
    clock, metrics = SystemClock(), Metrics()
    connection = connect(_connection_options(settings, choice))
    informers = Informers(connection, clock) if settings.cluster.watch else None
    cluster = KubeCluster(connection, _cluster_options(settings), informers)
    writes = settings.actuator.mode == "apply"
    lease = _lease(settings, connection, clock) if writes and settings.lease.enabled else None
    source = _source(settings, config, connection, informers)
    if settings.data.source == "files":
        source.load()
    templates, switch = live_templates(settings, source), _maintenance(settings, lease)
    options = _actuator_options(settings)
    actuator = ClusterActuator(cluster, lease or _NoLease(), options, templates, switch)
    planner = _planner(settings, clock)
    stores = build_stores(settings, connection)
    stores = unwritten(stores) if looking else recorded_stores(settings, stores)
    announcer = Announcer(metrics, _event_writer(settings, lease))
    told = {
        part: ToldStore(part, store, announcer)
        for part, store in stores.items()
        if store is not None
    }
    stores = {part: told.get(part) for part in stores}
    attention = build_attention(settings, stores[INTERVENTIONS])
    parts = Parts(
        source=source,
        sensor=AttentiveSensor(build_sensor(settings, cluster, clock), attention),
        estimator=_estimator(settings, stores[ESTIMATOR]),
        forecaster=build_forecaster(settings, stores[FORECASTER], build_past(settings, clock)),
        policy=with_moves(settings, build_policy(settings, stores[POLICY]), planner, templates),
        optimizer=planner,
        actuator=AttentiveActuator(actuator, attention),
        explainer=planner,
        scorer=None if settings.actuator.mode == "apply" else Shadow(predict_present),
    )
    service = Service(
        cycle=daemon_cycle(settings, parts, clock, stores),
        source=source,
        lease=lease,
        clock=clock,
        timing=Timing(settings.cycle.period_s, settings.cycle.deadline_s),
        metrics=metrics,
        recorder=Recorder(metrics, _line_writer(settings.report.file)),
        announcer=announcer,
        stores=told.values(),
    )
    keeper = None if lease is None else LeaseKeeper(lease, clock)
    endpoints = _endpoints(settings, service, metrics)
    # As long as a holder that died unnoticed keeps it, and a little.
    within_s = settings.lease.duration_s + 2 * settings.lease.renew_every_s
    return Runner(service, keeper, endpoints, clock, lease_within_s=within_s)


def bad_choices(settings: Settings, but: Collection[str] = ()) -> Iterator[Problem]:
    """What `build_daemon` would refuse of these settings, found without a cluster.

    Nothing is tried of the sections in `but`.
    """
    tries: dict[str, Callable[[], object]] = {
        "collector.dialects": lambda: vocabulary_of(settings.collector.dialects),
        "optimizer.solver": lambda: _known_solver(settings.optimizer.solver),
        "optimizer.queue_model": lambda: _known_queue_model(settings.optimizer.queue_model),
        "estimator.name": lambda: _estimator(settings),
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


def demo_engine(settings: Settings) -> Engine:
    """The production parts that a simulated fleet is run by: all but sensor and actuator.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    optimizer = _planner(settings, SystemClock())
    build = _loop_builder(settings, optimizer, {})
    return Engine(build, optimizer)


def replay_builder(settings: Settings, state: Mapping[str, str]) -> BuildCycle:
    """The production cycle for a replay: all but source, sensor and actuator; it keeps no state.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    stores = {name: MemoryStore(b64decode(text)) for name, text in state.items()}
    return _loop_builder(settings, _planner(settings, SystemClock()), stores)


def _loop_builder(
    settings: Settings, optimizer: Planner, stores: Mapping[str, StateStore]
) -> BuildCycle:
    def build(source: Source, sensor: Sensor, actuator: Actuator, clock: Clock) -> Cycle:
        parts = Parts(
            source=source,
            sensor=sensor,
            estimator=_estimator(settings, stores.get(ESTIMATOR)),
            forecaster=build_forecaster(settings, stores.get(FORECASTER)),
            policy=with_moves(settings, build_policy(settings, stores.get(POLICY)), optimizer),
            optimizer=optimizer,
            actuator=actuator,
        )
        return Cycle(parts, clock, settings.optimizer.drain_time_s)

    return build


def _source(
    settings: Settings, config: Path, connection: Connection, informers: Informers | None = None
) -> Source:
    data, queue_model = settings.data, _known_queue_model(settings.optimizer.queue_model)
    if data.source == "crds":
        store = CustomResources(connection, (data.namespace,), lister=informers)
        timeout_s = settings.cluster.request_timeout_s
        return CustomResourceSource(store, data.optimizer, queue_model, timeout_s)
    folder, dynamic = data_folder(settings, config), data.mode == "dynamic"
    return FolderSource(folder, dynamic=dynamic, queue_model=queue_model)


def build_doctor(settings: Settings, config: Path, choice: ClusterChoice) -> Doctor:
    """Examines what `build_daemon` would run on.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    clock, writes = SystemClock(), settings.actuator.mode == "apply"
    connection = connect(_connection_options(settings, choice))
    sensor = build_sensor(settings, KubeCluster(connection, _cluster_options(settings)), clock)
    leased = writes and settings.lease.enabled
    lease = (settings.lease.namespace, settings.lease.name) if leased else None
    needs = Needs(
        namespaces=settings.cluster.namespaces,
        writes=settings.actuator.mode != "dry-run",
        events=settings.actuator.events and writes,
        nodes=settings.capacity.source == "nodes",
        lease=lease,
        kept=config_maps(settings),
        keeps=writes,
        kinds=_scale_targets(settings),
        objects=settings.data.namespace if settings.data.source == "crds" else "",
        watches=settings.cluster.watch,
    )
    queries = sensor.queries if settings.prometheus.url else {}
    timeout_s = settings.cluster.request_timeout_s
    source = _source(settings, config, connection)
    account = ApiAccount(connection)
    return Doctor(account, rights(needs), source, sensor, queries, clock, timeout_s, lease)


class _NoLease:
    """The guard of one who needs no leave: a dry run, or a lease switched off."""

    def remaining_s(self) -> float:
        """No end."""
        return float("inf")


def _endpoints(settings: Settings, service: Service, metrics: Metrics) -> HttpServer | None:
    if settings.http.port < 0:
        return None
    app = daemon_app(service, metrics.registry)
    return HttpServer(app, settings.http.host, settings.http.port)


def _connection_options(settings: Settings, choice: ClusterChoice) -> ConnectionOptions:
    return ConnectionOptions(
        kubeconfig=str(choice.kubeconfig or ""),
        context=choice.context or "",
        pool_size=settings.actuator.concurrency + 4,
        page_size=settings.cluster.page_size,
    )


def _cluster_options(settings: Settings) -> ClusterOptions:
    return ClusterOptions(
        namespaces=settings.cluster.namespaces,
        field_manager=settings.actuator.field_manager,
        nodes=NodeOptions(
            accelerator_types=settings.capacity.accelerator_types,
            tolerated_taints=settings.capacity.tolerated_taints,
        ),
        kinds=_scale_targets(settings),
    )


def _scale_targets(settings: Settings) -> tuple[Resource, ...]:
    return tuple(kind_at(kind, at) for kind, at in settings.cluster.scale_targets.items())


def _planner(settings: Settings, clock: Clock) -> Planner:
    chosen = settings.optimizer
    return Planner(
        clock=clock,
        solver=_known_solver(chosen.solver),
        time_limit_s=chosen.time_limit_s,
        gap=chosen.gap,
        confidence=settings.estimator.confidence,
    )


def _known_solver(name: str) -> str:
    """The name, if it can be had: found out at start, not in the first cycle."""
    if name:
        solvers().factory(name)
    return name


def _known_queue_model(name: str) -> str:
    queue_models().factory(name)
    return name


def _lease(settings: Settings, connection: Connection, clock: Clock) -> Lease:
    options = settings.lease
    return Lease(
        connection,
        LeaseOptions(
            namespace=options.namespace,
            name=options.name,
            identity=options.identity or socket.gethostname(),
            duration_s=options.duration_s,
            renew_every_s=options.renew_every_s,
        ),
        clock,
    )


def _maintenance(settings: Settings, lease: Lease | None) -> MaintenanceSwitch:
    named = settings.actuator.maintenance_file
    file = Path(named) if named else None
    return (
        MaintenanceSwitch(file=file)
        if lease is None
        else MaintenanceSwitch(lease.maintenance, file)
    )


def _event_writer(settings: Settings, lease: Lease | None) -> WriteEvent | None:
    if lease is None or not settings.actuator.events:
        return None
    timeout_s = min(settings.actuator.write_timeout_s, MOST_FOR_AN_EVENT_S)
    return lambda reason, message: lease.tell(reason, message, timeout_s)


def _actuator_options(settings: Settings) -> ActuatorOptions:
    return ActuatorOptions(
        mode=Mode(settings.actuator.mode),
        concurrency=settings.actuator.concurrency,
        write_timeout_s=settings.actuator.write_timeout_s,
        lease_margin_s=LEASE_MARGIN_S,
        events=settings.actuator.events,
        templates=templates_of(settings),
        switch=switch_options(settings),
    )


def _estimator(settings: Settings, store: StateStore | None = None) -> Estimator:
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


def _line_writer(file: str) -> Callable[[str], None] | None:
    if not file:
        return None
    if file == "-":
        return lambda line: _write_line(sys.stdout, line)
    path = Path(file)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise SettingsError([Problem("report.file", "must lie in a folder that exists", file)])

    def append(line: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            _write_line(stream, line)

    return append


def _write_line(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()
