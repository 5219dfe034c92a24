"""Builds the daemon over a real cluster."""

from __future__ import annotations

from pathlib import Path

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.attention import AttentiveActuator, AttentiveSensor
from controlloop.clock import SystemClock
from controlloop.composition.acting import (
    NoLease,
    actuator_options,
    build_maintenance,
    event_writer,
)
from controlloop.composition.cluster import (
    ClusterChoice,
    build_lease,
    cluster_options,
    connection_options,
)
from controlloop.composition.forecast import build_forecaster
from controlloop.composition.garbage import collect_garbage_rarely
from controlloop.composition.output import line_writer
from controlloop.composition.parts import build_estimator, build_planner
from controlloop.composition.policy import build_policy
from controlloop.composition.recording import (
    ESTIMATOR,
    FORECASTER,
    INTERVENTIONS,
    POLICY,
    daemon_cycle,
    recorded_stores,
    unwritten,
)
from controlloop.composition.sensor import build_past, build_sensor
from controlloop.composition.source import build_source
from controlloop.composition.state import build_attention, build_stores
from controlloop.composition.switching import live_templates, with_mixes, with_moves
from controlloop.cycle import Parts
from controlloop.daemon.recorder import Recorder
from controlloop.daemon.runner import Runner
from controlloop.daemon.service import Service, Timing
from controlloop.daemon.troubles import Announcer, ToldStore
from controlloop.kube.cluster import KubeCluster
from controlloop.kube.connection import connect
from controlloop.kube.informers import Informers
from controlloop.kube.lease import LeaseKeeper
from controlloop.optimizer.present import predict_present
from controlloop.rest.endpoints import daemon_app
from controlloop.rest.server import HttpServer
from controlloop.settings.tree import Settings
from controlloop.shadow import Shadow
from controlloop.telemetry import Metrics, set_up_logs


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
    collect_garbage_rarely()
    clock, metrics = SystemClock(), Metrics()
    connection = connect(connection_options(settings, choice))
    informers = Informers(connection, clock) if settings.cluster.watch else None
    cluster = KubeCluster(connection, cluster_options(settings), informers)
    writes = settings.actuator.mode == "apply"
    lease = build_lease(settings, connection, clock) if writes and settings.lease.enabled else None
    source = build_source(settings, config, connection, informers)
    if settings.data.source == "files":
        source.load()
    templates, switch = live_templates(settings, source), build_maintenance(settings, lease)
    options = actuator_options(settings)
    actuator = ClusterActuator(cluster, lease or NoLease(), options, templates, switch)
    planner = build_planner(settings, clock)
    stores = build_stores(settings, connection)
    stores = unwritten(stores) if looking else recorded_stores(settings, stores)
    announcer = Announcer(metrics, event_writer(settings, lease))
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
        estimator=build_estimator(settings, stores[ESTIMATOR]),
        forecaster=build_forecaster(settings, stores[FORECASTER], build_past(settings, clock)),
        policy=with_mixes(
            settings,
            with_moves(settings, build_policy(settings, stores[POLICY]), planner, templates),
            planner,
            templates,
        ),
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
        recorder=Recorder(metrics, line_writer(settings.report.file)),
        announcer=announcer,
        stores=told.values(),
        maintenance=switch.reason,
    )
    keeper = None if lease is None else LeaseKeeper(lease, clock)
    endpoints = _endpoints(settings, service, metrics)
    # As long as a holder that died unnoticed keeps it, and a little.
    within_s = settings.lease.duration_s + 2 * settings.lease.renew_every_s
    return Runner(service, keeper, endpoints, clock, lease_within_s=within_s)


def _endpoints(settings: Settings, service: Service, metrics: Metrics) -> HttpServer | None:
    if settings.http.port < 0:
        return None
    app = daemon_app(service, metrics.registry)
    return HttpServer(app, settings.http.host, settings.http.port)
