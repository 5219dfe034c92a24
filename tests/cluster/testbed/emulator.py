"""Serves the metrics of a vLLM server for every ready pod, under loads and faults of a test."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from testbed.exposition import CONTENT_TYPE, gateway_page, vllm_page
from testbed.pods import Pod
from testbed.replica import FluidReplica, Load, Service

Fault = Callable[[str], str | None]
"""From the page that would be served to the one that is; None cuts the connection."""

GATEWAY_PATH = "/gateway/metrics"
RUNNING_NOT_ZERO = re.compile(r"^vllm:num_requests_running\S* [1-9]", re.MULTILINE)
SAMPLE_VALUE = re.compile(r"^(vllm:.*) \S+$", re.MULTILINE)


def frozen(from_page: Callable[[str], bool] = lambda _: True) -> Fault:
    """Serve one page for ever, the first that `from_page` likes: counters that stand still."""
    kept: list[str] = []

    def serve(page: str) -> str:
        if not kept and from_page(page):
            kept.append(page)
        return kept[0] if kept else page

    return serve


def in_service(page: str) -> bool:
    """Whether a request runs; at a low rate a server is now and then empty."""
    return RUNNING_NOT_ZERO.search(page) is not None


def without_series(page: str) -> str:
    """Answer, but without one metric of the server."""
    return "".join(line for line in page.splitlines(keepends=True) if "vllm:" not in line)


def not_a_number(page: str) -> str:
    """Every value is NaN."""
    return SAMPLE_VALUE.sub(r"\1 NaN", page)


def dead(page: str) -> None:
    """Accept the connection and cut it."""


def slow(seconds: float) -> Fault:
    """Answer late; beyond the scrape's time-out it is no answer."""

    def serve(page: str) -> str:
        time.sleep(seconds)
        return page

    return serve


class Emulator:
    """All inference servers of one namespace, over HTTP at /NAMESPACE/POD/metrics.

    A server's load is split evenly over its ready pods. `service` tells how fast a pod really
    is, `page` how its metrics read; both may be replaced before pods come.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.service: Callable[[Pod], Service] = lambda _: Service()
        self.page: Callable[[FluidReplica, str], str] = vllm_page
        self._pods: dict[str, Pod] = {}
        self._replicas: dict[str, FluidReplica] = {}
        self._of_app: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._loads: dict[str, Load] = {}
        self._faults: dict[str, Fault] = {}
        self._arrivals: dict[str, _Arrivals] = {}
        self._lock = threading.Lock()
        self._server = _Server(self._answer)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def set_pods(self, pods: Mapping[str, Pod]) -> None:
        """The pods that run now. A new one starts empty; what a gone one held is lost."""
        of_app: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        for name, pod in pods.items():
            of_app[pod.app][name] = pod
        with self._lock:
            self._pods = dict(pods)
            for app in {*of_app, *self._of_app}:
                if of_app[app] != self._of_app[app]:
                    self._change_pods(app, of_app[app])

    def set_load(self, app: str, load: Load) -> None:
        """What the server `app` is asked to do from now on."""
        self.set_loads({app: load})

    def set_loads(self, loads: Mapping[str, Load]) -> None:
        """The same for many servers at once."""
        with self._lock:
            for app, load in loads.items():
                now = self._advance(self._of_app[app])
                self._arrivals.setdefault(app, _Arrivals(now)).change(now, load.rate_rps)
                self._loads[app] = load
                self._split_load(app)

    def restart(self, pod: str) -> None:
        """The pod's server crashed and came back: counters at zero, requests lost."""
        with self._lock:
            restarted = self._pods[pod]
            self._replicas[pod] = FluidReplica(
                self.service(restarted), restarted.max_batch, time.time()
            )
            self._split_load(restarted.app)

    def set_fault(self, pod: str, fault: Fault | None) -> None:
        """Serve the pod's page through `fault` from now on; None ends it."""
        with self._lock:
            if fault is None:
                self._faults.pop(pod, None)
            else:
                self._faults[pod] = fault

    def replica(self, pod: str) -> FluidReplica:
        """The pod's replica as it is now; raises KeyError where no such pod runs."""
        with self._lock:
            self._advance([pod])
            return self._replicas[pod]

    def _advance(self, names: Iterable[str]) -> float:
        now = time.time()
        for name in names:
            self._replicas[name].advance(now)
        return now

    def _change_pods(self, app: str, after: dict[str, Pod]) -> None:
        before = self._of_app[app]
        now = self._advance(before)
        for name in before.keys() - after.keys():
            del self._replicas[name]
        for name, pod in after.items():
            if before.get(name) != pod:
                self._replicas[name] = FluidReplica(self.service(pod), pod.max_batch, now)
        self._of_app[app] = after
        self._split_load(app)

    def _split_load(self, app: str) -> None:
        load, names = self._loads.get(app, Load()), self._of_app[app]
        for name in names:
            self._replicas[name].load = replace(load, rate_rps=load.rate_rps / len(names))

    def _answer(self, path: str) -> str | None:
        """The page at `path`, "" where there is none, None to cut the connection."""
        if path == GATEWAY_PATH:
            with self._lock:
                now = time.time()
                counts = {app: arrivals.count(now) for app, arrivals in self._arrivals.items()}
            return gateway_page(self.namespace, counts)
        _, _, name = path.removesuffix("/metrics").rpartition("/")
        with self._lock:
            replica = self._replicas.get(name)
            if replica is None:
                return ""
            replica.advance(time.time())
            page = self.page(replica, self._pods[name].model)
            fault = self._faults.get(name)
        return fault(page) if fault else page


class _Arrivals:
    """Requests that came to one server, whether or not any pod was there to take them."""

    def __init__(self, now: float) -> None:
        self._rate_rps, self._since, self._before = 0.0, now, 0.0

    def count(self, now: float) -> float:
        return self._before + self._rate_rps * (now - self._since)

    def change(self, now: float, rate_rps: float) -> None:
        self._before, self._since, self._rate_rps = self.count(now), now, rate_rps


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self.answer = answer
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-answer is nothing to report; all else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        page = self.server.answer(self.path)
        if page is None:
            self.close_connection = True
            return
        body = page.encode()
        self.send_response(HTTPStatus.OK if body else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """No line for each scrape."""
