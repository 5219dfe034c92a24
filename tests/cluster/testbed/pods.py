"""Follows the ready pods of a namespace, as a service discovery does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from testbed.control_plane import ControlPlane
from testbed.objects import APP, EMULATED, PRODUCT_LABEL

WATCH_S = 1
RETRY_S = 0.1
LEAST_PAUSE_S = 0.02
PAUSE_FOR_WORK = 5
BATCH_ARGUMENT = "--max-num-seqs="
MODEL_ARGUMENT = "--model="


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as its own spec describes it; the batch is what its arguments say."""

    name: str
    app: str
    model: str
    product: str
    max_batch: int


Listener = Callable[[Mapping[str, Pod]], None]


class PodFollower:
    """Tells its listeners the emulated pods that are Ready, by name, whenever they change.

    While the API server is away the last known pods stay: they go on running without it.
    """

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self._url = f"{control_plane.url}/api/v1/namespaces/{namespace}/pods"
        self._listeners: list[Listener] = []
        self._pods: dict[str, Pod] = {}
        self._stop, self._changed = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=target, name="pod-follower", daemon=True)
            for target in (self._follow, self._tell_all)
        ]

    def tell(self, listener: Listener) -> None:
        """Tell `listener` what is there now, and every change."""
        self._listeners.append(listener)
        self._changed.set()

    def start(self) -> None:
        """Follow from now on."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self._stop.set()
        self._changed.set()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        with self._control_plane.session() as session:
            while not self._stop.is_set():
                try:
                    self._watch(session, self._list(session))
                except requests.RequestException:
                    self._stop.wait(RETRY_S)

    def _list(self, session: requests.Session) -> str:
        answer = session.get(self._url, params=self._selector(), timeout=10)
        answer.raise_for_status()
        pods = answer.json()
        self._pods = {
            item["metadata"]["name"]: _read(item) for item in pods["items"] if is_ready(item)
        }
        self._changed.set()
        return str(pods["metadata"]["resourceVersion"])

    def _watch(self, session: requests.Session, version: str) -> None:
        while not self._stop.is_set():
            parameters = {**self._selector(), "watch": "1", "timeoutSeconds": str(WATCH_S)}
            parameters |= {"resourceVersion": version, "allowWatchBookmarks": "true"}
            with session.get(self._url, params=parameters, stream=True, timeout=10) as answer:
                answer.raise_for_status()
                for line in answer.iter_lines(chunk_size=None):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    if event["type"] == "BOOKMARK":
                        continue
                    self._note(event["object"], gone=event["type"] == "DELETED")

    def _note(self, item: dict[str, Any], *, gone: bool) -> None:
        name = item["metadata"]["name"]
        pod = None if gone or not is_ready(item) else _read(item)
        if pod == self._pods.get(name):
            return
        pods = {**self._pods, name: pod}
        self._pods = {name: pod for name, pod in pods.items() if pod is not None}
        self._changed.set()

    def _tell_all(self) -> None:
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            pods, started = self._pods, time.monotonic()
            for listener in self._listeners:
                listener(pods)
            # A thousand pods that come at once are told in a few calls, and telling of them
            # takes a small part of the time.
            took_s = time.monotonic() - started
            self._stop.wait(max(LEAST_PAUSE_S, PAUSE_FOR_WORK * took_s))

    def _selector(self) -> dict[str, str]:
        return {"labelSelector": ",".join(f"{key}={value}" for key, value in EMULATED.items())}


def is_ready(item: dict[str, Any]) -> bool:
    """Whether the pod, in JSON, is Ready and not being deleted."""
    return "deletionTimestamp" not in item["metadata"] and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in item["status"].get("conditions", ())
    )


def _read(item: dict[str, Any]) -> Pod:
    spec = item["spec"]
    arguments = spec["containers"][0].get("args", [])
    return Pod(
        name=item["metadata"]["name"],
        app=item["metadata"]["labels"][APP],
        model=_argument(arguments, MODEL_ARGUMENT, ""),
        product=spec.get("nodeSelector", {}).get(PRODUCT_LABEL, ""),
        max_batch=int(_argument(arguments, BATCH_ARGUMENT, "256")),
    )


def _argument(arguments: list[str], prefix: str, default: str) -> str:
    return next((a.removeprefix(prefix) for a in arguments if a.startswith(prefix)), default)
