"""The daemon's own cycle over a fleet in memory: the production parts between stand-ins."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from memory_cluster import MADE_AT, MemoryLister
from memory_prometheus import SAMPLES, SCRAPE_S
from testbed.daemon import data_files

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.attention import AttentiveActuator, AttentiveSensor
from controlloop.api.report import CycleReport
from controlloop.clock import Deadline, SystemClock
from controlloop.composition.acting import NoLease, actuator_options
from controlloop.composition.cluster import ClusterChoice, cluster_options, connection_options
from controlloop.composition.forecast import build_forecaster
from controlloop.composition.garbage import collect_garbage_rarely
from controlloop.composition.output import line_writer
from controlloop.composition.parts import build_estimator, build_planner
from controlloop.composition.policy import build_policy
from controlloop.composition.sensor import build_sensor
from controlloop.composition.source import build_source
from controlloop.composition.state import build_attention
from controlloop.cycle import Cycle, Parts
from controlloop.daemon.recorder import Recorder
from controlloop.kube.cluster import KubeCluster
from controlloop.kube.connection import connect
from controlloop.settings.file import read_settings
from controlloop.telemetry import Metrics, set_up_logs

PERIOD_S = 15.0
BEGIN = MADE_AT + 86_400.0
_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {token: none}}]
"""
"""Of an API server that nobody asks: everything is listed."""


def daemon_cycle(servers: int, replicas: int = 5, nodes: int = 400) -> Callable[[], CycleReport]:
    """The cycle of a daemon, from the lists to the report's line; each call is the next one."""
    folder = Path(tempfile.mkdtemp(prefix="daemon-cycle-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "data").mkdir()
    for name, document in data_files({"A100": 1}).items():
        (folder / "data" / name).write_text(json.dumps(document))
    settings = read_settings(
        json.dumps(
            {
                "prometheus": {"url": _start_prometheus(servers, replicas), "timeout_s": 60.0},
                "cycle": {"period_s": PERIOD_S, "deadline_s": 600.0},
                "collector": {
                    "window_s": SAMPLES * SCRAPE_S,
                    "stale_after_s": 2.4 * SCRAPE_S,
                    "metrics_timeout_s": 300.0,
                },
                "capacity": {"source": "nodes", "accelerator_types": {"A100": "A100"}},
                "log": {"format": "json"},
            }
        ),
        "bench",
        {},
    )
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(_KUBECONFIG)
    set_up_logs(settings.log)
    collect_garbage_rarely()
    clock, metrics = SystemClock(), Metrics()
    lister = MemoryLister(servers, replicas, nodes)
    connection = connect(connection_options(settings, ClusterChoice(kubeconfig)))
    cluster = KubeCluster(connection, cluster_options(settings), lister)
    planner, attention = build_planner(settings, clock), build_attention(settings, None)
    actuator = ClusterActuator(cluster, NoLease(), actuator_options(settings))
    parts = Parts(
        source=build_source(settings, folder, connection),
        sensor=AttentiveSensor(build_sensor(settings, cluster, clock), attention),
        estimator=build_estimator(settings),
        forecaster=build_forecaster(settings),
        policy=build_policy(settings),
        optimizer=planner,
        actuator=AttentiveActuator(actuator, attention),
        explainer=planner,
    )
    cycle = Cycle(parts, clock)
    recorder = Recorder(metrics, line_writer(str(folder / "reports.jsonl")))
    now = BEGIN

    def run() -> CycleReport:
        nonlocal now
        now += PERIOD_S
        report = cycle.run_once(now, Deadline(clock, 600.0))
        recorder.record(report, "bench")
        return report

    return run


def _start_prometheus(servers: int, replicas: int) -> str:
    """Start one that ends with this process; its address."""
    program = str(Path(__file__).with_name("memory_prometheus.py"))
    command = [sys.executable, program, str(servers), str(replicas)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    if process.stdout is None:
        raise RuntimeError("its output was asked for")
    return f"http://127.0.0.1:{int(process.stdout.readline())}"
