"""A real Prometheus that follows the pods, can be killed and stalled, and loads recordings."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from testbed.emulator import GATEWAY_PATH
from testbed.pods import Pod
from testbed.processes import Program, free_ports

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
FOR_EVER = "100y"


class Prometheus:
    """One Prometheus; its targets are those of every `targets/*.json` in its folder."""

    def __init__(
        self, programs: Mapping[str, Path], folder: Path, scrape_interval_s: float = 1.0
    ) -> None:
        self.folder = folder
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._promtool = programs["promtool"]
        (folder / "targets").mkdir()
        interval = f"{int(scrape_interval_s * 1000)}ms"
        job = {
            "job_name": "servers",
            "file_sd_configs": [
                {"files": [str(folder / "targets" / "*.json")], "refresh_interval": "1s"}
            ],
        }
        content = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [job],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
        self.program = Program(
            [
                programs["prometheus"],
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--storage.tsdb.retention.time={FOR_EVER}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--scrape.discovery-reload-interval=200ms",
            ],
            folder / "prometheus.log",
        )

    def start(self) -> None:
        """Start it; returns once it answers queries."""
        self.program.start()
        self.program.await_ready(self._ready)

    def kill(self) -> None:
        """SIGKILL; its data stays for the next `start`."""
        self.program.kill()

    def close(self) -> None:
        """End it for good."""
        self.program.close()

    def follow(self, namespace: str, address: str, pods: Mapping[str, Pod]) -> None:
        """Scrape exactly these pods, and the gateway, of `namespace` at `address`."""
        groups: list[dict[str, Any]] = [
            {
                "targets": [address],
                "labels": {
                    "__metrics_path__": f"/{namespace}/{name}/metrics",
                    "namespace": namespace,
                    "pod": name,
                },
            }
            for name in pods
        ]
        groups.append(
            {
                "targets": [address],
                "labels": {"__metrics_path__": GATEWAY_PATH, "job": "gateway"},
            }
        )
        path = self.folder / "targets" / f"{namespace}.json"
        written = path.with_suffix(".part")
        written.write_text(json.dumps(groups))
        written.replace(path)

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant vector, now or `at` a time."""
        parameters = {"query": expression} | ({} if at is None else {"time": repr(at)})
        answer = requests.get(f"{self.url}/api/v1/query", params=parameters, timeout=30)
        answer.raise_for_status()
        return [
            (series["metric"], float(series["value"][1]))
            for series in answer.json()["data"]["result"]
        ]

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The value of the only series, None where there is none."""
        answer = self.query(expression, at)
        if len(answer) > 1:
            raise ValueError(f"{expression} has {len(answer)} series, not one")
        return answer[0][1] if answer else None

    def load_recording(self, recording: Path, labels: Mapping[str, str], start: float) -> None:
        """Backfill a recording of metric pages, its first second at `start`; before `start()`.

        Args:
            recording: gzipped JSON lines {"t": seconds, "exposition": [sample lines]}.
            labels: what a scrape would have added (namespace, pod).
            start: seconds since the epoch.

        """
        text = openmetrics(recording, labels, start)
        file = self.folder / "recording.om"
        file.write_text(text)
        subprocess.run(
            [self._promtool, "tsdb", "create-blocks-from", "openmetrics", file, "data"],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False


def openmetrics(recording: Path, labels: Mapping[str, str], start: float) -> str:
    """The recording as OpenMetrics with time stamps, samples of one series together."""
    added = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series: dict[str, dict[str, list[str]]] = {}
    with gzip.open(recording, "rt") as lines:
        for line in lines:
            scrape = json.loads(line)
            for sample in scrape["exposition"]:
                match = SAMPLE.match(sample)
                if match is None:
                    raise ValueError(f"{recording}: not a sample: {sample}")
                name, own, value = match["name"], match["labels"], match["value"]
                key = f"{name}{{{own},{added}}}" if own else f"{name}{{{added}}}"
                stamped = f"{key} {value} {start + scrape['t']:.3f}"
                series.setdefault(name, {}).setdefault(key, []).append(stamped)
    # Untyped: the recording has no types, and the names of a counter's family differ from it.
    blocks = [
        "\n".join([f"# TYPE {name} unknown", *(line for rows in keys.values() for line in rows)])
        for name, keys in series.items()
    ]
    return "\n".join([*blocks, "# EOF\n"])
