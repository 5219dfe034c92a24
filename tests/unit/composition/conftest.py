"""One HTTP server that is both API server and Prometheus, and a daemon run against it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from controlloop.api.report import CycleReport
from controlloop.composition.cluster import ClusterChoice
from controlloop.composition.configuration import load_settings
from controlloop.composition.daemon import build_daemon
from controlloop.daemon.runner import Runner

PREFIX = "inferno.server."
METRICS = re.compile(r"vllm:\w+|gateway_total")
PER_S = {"gateway_total": 3.0, "vllm:admission_rejections_total": 0.0}


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    authorization: str

    @property
    def timeout_ms(self) -> float:
        """The time-out that the API server is told."""
        return float(self.query["timeout"].removesuffix("ms"))


@dataclass
class Stand:
    """What the server holds, and what it was asked."""

    folder: Path
    root: Path
    port: int = 0
    servers: int = 1
    replicas: int = 4
    pods: bool = True
    rpm: float = 60.0
    labels: dict[str, str] = field(default_factory=dict)
    waiting: float = 0.0
    sample_age_s: float = 2.0
    custom: dict[str, list[Any]] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    unplaced: bool = False
    started_ago_s: float = 0.0
    clock_off_s: float = 0.0
    series_labels: tuple[str, str] = ("namespace", "pod")
    patch_takes_s: float = 0.0
    refuses_patches: bool = False
    away: bool = False
    asked: list[Asked] = field(default_factory=list)
    patching: int = 0
    most_patching: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def runner(self, settings: Mapping[str, object] | None = None) -> Runner:
        """A daemon with these settings over some that make a cycle plain and quick."""
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()))
        usual: dict[str, object] = {
            "data.directory": str(self.root / "config" / "data"),
            "stability.down_window_s": 0,
            "forecaster.warm_s": 0,
            "lease.enabled": False,
            "cluster.watch": False,
            "http.port": -1,
        }
        given = load_settings(self.folder, usual | dict(settings or {}))
        return build_daemon(given, self.folder, ClusterChoice(kubeconfig))

    def cycle(self, **settings: object) -> CycleReport:
        """One cycle; a setting is named section__name."""
        return self.runner({key.replace("__", "."): it for key, it in settings.items()}).run_once()

    def measured(self, **settings: object) -> CycleReport:
        """One cycle with this server as Prometheus."""
        return self.cycle(prometheus__url=self.url, **settings)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def of(self, method: str, part: str) -> list[Asked]:
        """The requests of a method whose path holds `part`."""
        return [one for one in self.asked if one.method == method and part in one.path]

    @property
    def queries(self) -> list[str]:
        """What Prometheus was asked."""
        return [one.query["query"] for one in self.of("GET", "/api/v1/query")]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and body for a request."""
        path = asked.path
        if path in ("/api/v1/query", "/api/v1/query_range"):
            found = self._series(asked) if path == "/api/v1/query" else []
            return 200, {"status": "success", "data": {"result": found}}
        if "/leases" in path:
            if asked.method == "GET":
                return 404, {"message": "no such lease"}
            return 200, asked.body | {"metadata": asked.body["metadata"] | {"resourceVersion": "1"}}
        if path.endswith("/selfsubjectaccessreviews"):
            wanted = asked.body["spec"]["resourceAttributes"]
            right = f"{wanted['verb']} {wanted['resource']}"
            return 201, {"status": {"allowed": right not in self.denied}}
        if asked.method == "PATCH":
            with self.lock:
                self.patching += 1
                self.most_patching = max(self.most_patching, self.patching)
            time.sleep(self.patch_takes_s)
            with self.lock:
                self.patching -= 1
        if asked.method != "GET":
            refused = asked.method == "PATCH" and self.refuses_patches
            return (403, {"message": "may not patch"}) if refused else (200, {})
        away = 503, {"message": "it is away"}
        return away if self.away else self._listed(path.rpartition("/")[2])

    def _listed(self, kind: str) -> tuple[int, Any]:
        things: Mapping[str, Callable[[int], Any]] = {
            "deployments": self._deployment,
            "replicasets": lambda at: _owned(f"rs{at}", "Deployment", f"d{at}"),
            "pods": self._pod,
        }
        if kind == "nodes":
            return 200, {"items": [_node("a", "NVIDIA-X"), _node("b", "NVIDIA-X", "spot")]}
        if kind == "version":
            return 200, {"gitVersion": "v1.36.3"}
        if kind == "pods" and not self.pods:
            return 200, {"metadata": {"resourceVersion": "5"}, "items": []}
        if kind in things:
            items = [things[kind](at) for at in range(self.servers)]
            return 200, {"metadata": {"resourceVersion": "5"}, "items": items}
        if kind in self.custom:
            return 200, {"items": self.custom[kind]}
        return 404, {"message": "no such kind"}

    def _deployment(self, at: int) -> dict[str, Any]:
        says = {
            "managed": "true",
            "name": f"chat{at}",
            "model": "llama-3.1-8b",
            "class": "Premium",
            "allocation.accelerator": "A100",
            "allocation.maxbatchsize": "64",
            "load.rpm": str(self.rpm),
            "load.intokens": "200",
            "load.outtokens": "100",
        }
        metadata = _owned(f"d{at}")["metadata"] | {
            "name": f"chat{at}",
            "labels": {PREFIX + key: it for key, it in (says | self.labels).items()},
        }
        status = {"replicas": self.replicas, "updatedReplicas": self.replicas}
        return {"metadata": metadata, "spec": {"replicas": self.replicas}, "status": status}

    def _pod(self, at: int) -> dict[str, Any]:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        pod = _owned(f"p{at}", "ReplicaSet", f"rs{at}")
        if self.unplaced:
            unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            waits = unplaced | {"lastTransitionTime": ready["lastTransitionTime"]}
            return pod | {"status": {"phase": "Pending", "conditions": [waits]}}
        if self.started_ago_s:
            began = datetime.fromtimestamp(time.time() - self.started_ago_s, UTC).isoformat()
            unready = ready | {"status": "False", "lastTransitionTime": began}
            status = {"phase": "Running", "startTime": began, "conditions": [unready]}
            return pod | {"status": status}
        return pod | {"status": {"phase": "Running", "conditions": [ready]}}

    def _series(self, asked: Asked) -> list[dict[str, Any]]:
        now = float(asked.query["time"])
        times = [now - self.sample_age_s - 5.0 * back for back in reversed(range(9))]
        namespace, pod = self.series_labels
        labels = {namespace: "llm", pod: "p0", "route": "chat0", "space": "llm"}
        shown = {"running": 1.0, "waiting": self.waiting}
        found = []
        for name in METRICS.findall(asked.query["query"]):
            if any(part in name for part in self.silent):
                continue
            gauge = next((it for key, it in shown.items() if name.endswith(key)), None)
            per_s = PER_S.get(name, 2.0)
            values = [
                [at, str(gauge if gauge is not None else per_s * (at - now + 900))] for at in times
            ]
            found.append({"metric": labels | {"__name__": name}, "values": values})
        return found

    def _kubeconfig(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        }


def _owned(uid: str, kind: str = "", owner: str = "") -> dict[str, Any]:
    metadata = {"namespace": "llm", "name": uid, "uid": uid, "resourceVersion": "1"}
    owners = [{"controller": True, "kind": kind, "uid": owner}] if kind else []
    return {"metadata": metadata | {"ownerReferences": owners}}


def _node(name: str, product: str, taint: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product}},
        "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}] if taint else []},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


@pytest.fixture
def stand(tmp_path: Path, root: Path) -> Iterator[Stand]:
    """A server of one Deployment that runs 4 replicas and needs 1."""
    made = Stand(tmp_path, root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            body = json.loads(self.rfile.read(length)) if length else None
            said = self.headers.get("Authorization") or ""
            asked = Asked(self.command, parts.path, query, body, said)
            made.asked.append(asked)
            status, answer = made.answer(asked)
            content = json.dumps(answer).encode()
            self.send_response_only(status)
            moment = time.time() + made.clock_off_s
            self.send_header("Date", formatdate(moment, usegmt=True))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = _any  # noqa: N815 - its base's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made.port = http.server_port
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        http.shutdown()
