"""The daemon as a user runs it: the real command, a configuration folder, a report file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from testbed.processes import Program, free_ports
from testbed.waiting import until

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "controlloop"]
"""The image's entry point."""
MOUNTED = "/config"
MODELS = ("llama-8b", "qwen-14b")
CLASSES = ("Premium", "Bronze")


def data_files(capacity: Mapping[str, int], models: Sequence[str] = MODELS) -> dict[str, Any]:
    """Data of a small fleet; every pair performs as the emulator's replicas do by default."""
    kinds = list(capacity)
    pairs = [
        {
            "name": model,
            "acc": kind,
            "accCount": 1,
            "maxBatchSize": 32,
            "atTokens": 64,
            "decodeParms": {"alpha": 8.0, "beta": 0.2},
            "prefillParms": {"gamma": 5.0, "delta": 0.005},
        }
        for model in models
        for kind in kinds
    ]
    targets = [{"model": model, "slo-itl": 12.0, "slo-ttft": 1000.0} for model in models]
    return {
        "accelerator-data.json": {
            "accelerators": [{"name": kind, "type": kind, "cost": 40.0} for kind in kinds]
        },
        "capacity-data.json": {
            "count": [{"type": kind, "count": count} for kind, count in capacity.items()]
        },
        "model-data.json": {"models": pairs},
        "serviceclass-data.json": {
            "serviceClasses": [
                {"name": name, "priority": priority, "modelTargets": targets}
                for priority, name in enumerate(CLASSES, 1)
            ]
        },
        "optimizer-data.json": {"optimizer": {"saturationPolicy": "PriorityExhaustive"}},
    }


def shipped_arguments() -> list[str]:
    """What the container is told to do; its settings are mounted at `MOUNTED`."""
    manifest = yaml.safe_load((ROOT / "deploy" / "base" / "deployment.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return [str(each) for each in container["args"]]


class Daemon:
    """One `controlloop run` with a configuration of its own.

    `settings` is merged over settings that are quick enough for tests.
    """

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        namespace: str,
        prometheus_url: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        capacity: Mapping[str, int] | None = None,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.report_file = folder / "reports.jsonl"
        self.log = folder / "daemon.log"
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        base: dict[str, dict[str, Any]] = {
            "cycle": {"period_s": 3.0, "deadline_s": 10.0},
            "cluster": {"namespaces": [namespace]},
            "prometheus": {"url": prometheus_url, "timeout_s": 3.0},
            "collector": {"window_s": 10.0, "stale_after_s": 5.0, "metrics_timeout_s": 4.0},
            "stability": {"down_window_s": 10.0},
            "lease": {"namespace": namespace, "duration_s": 8, "renew_every_s": 1.0},
            "actuator": {"write_timeout_s": 2.0},
            "http": {"host": "127.0.0.1", "port": port},
            "log": {"format": "json"},
            "report": {"file": str(self.report_file)},
        }
        for section, values in (settings or {}).items():
            base.setdefault(section, {}).update(values)
        (folder / "data").mkdir(parents=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(base))
        self.write_data(data_files(capacity or {"A100": 64}))
        shipped = [str(folder) if each == MOUNTED else each for each in shipped_arguments()]
        self.arguments = [*command, *shipped, "--kubeconfig", str(kubeconfig)]
        self.program = Program(self.arguments, self.log, environment)

    def write_data(self, files: Mapping[str, Any]) -> None:
        """Write data files, each whole."""
        for name, document in files.items():
            self.write_text(name, json.dumps(document))

    def write_text(self, name: str, text: str) -> None:
        """Write one data file, good or bad."""
        part = self.folder / "data" / f".{name}.part"
        part.write_text(text)
        part.replace(self.folder / "data" / name)

    def start(self) -> None:
        """Start it; returns once it answers."""
        self.program.start()
        self.program.await_ready(lambda: self.get("/healthz") is not None)

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One cycle in a process of its own."""
        command = [*self.arguments, "--once", "--set", "http.port=-1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def get(self, path: str) -> requests.Response | None:
        """The answer of an endpoint; None while there is none."""
        try:
            return requests.get(self.url + path, timeout=30)
        except requests.RequestException:
            return None

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of one of its own metrics that carry these labels."""
        answer = self.get("/metrics")
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = answer.text.splitlines() if answer is not None else []
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition("{")[0].partition(" ")[0] == name
            and all(each in line for each in wanted)
        )

    def reports(self) -> list[dict[str, Any]]:
        """Every cycle's report so far."""
        if not self.report_file.exists():
            return []
        whole = self.report_file.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def await_reports(self, count: int, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait for `count` more cycles; return their reports."""
        before = len(self.reports())
        until(lambda: len(self.reports()) >= before + count, f"{count} cycles", timeout_s)
        return self.reports()[before : before + count]

    def await_report(
        self, condition: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 60.0
    ) -> dict[str, Any]:
        """Wait for a report to come for which `condition` holds; return it."""
        seen = len(self.reports())

        def found() -> dict[str, Any] | None:
            return next((each for each in self.reports()[seen:] if condition(each)), None)

        answer = until(found, what, timeout_s, 0.1)
        assert answer is not None
        return answer

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line.get("event") == name]

    def close(self) -> None:
        """Kill it for good."""
        self.program.close()


def server_of(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A server's part of a report."""
    found = [server for server in report["servers"] if server["server"] == name]
    if len(found) != 1:
        raise KeyError(f"{len(found)} servers {name!r} in the report")
    return dict(found[0])


def holds_of(report: Mapping[str, Any], name: str) -> set[str]:
    """The reasons of a server's holds."""
    return {hold["reason"] for hold in server_of(report, name)["holds"]}
