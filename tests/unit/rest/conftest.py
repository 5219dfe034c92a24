from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from controlloop.api.solution import Solution
from controlloop.api.system import System
from controlloop.optimizer import optimize
from controlloop.rest.building import build_app
from controlloop.rest.options import RestOptions
from controlloop.rest.server import HttpServer


class Client:
    """Asks one server over HTTP."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{server.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.asked: list[tuple[str, str]] = []

    def ask(self, verb: str, path: str, body: Any = None, **kwargs: Any) -> requests.Response:
        self.asked.append((verb, path))
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.request(verb, self.url + path, data=data, timeout=60, **kwargs)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = self.ask("POST", path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, verb: str, path: str, status: int, body: Any = None) -> Any:
        answer = self.ask(verb, path, body)
        assert answer.status_code == status, answer.text
        return answer.json()


Start = Callable[..., Client]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers; they end with the test."""
    clients: list[Client] = []

    def begin(
        options: RestOptions | None = None, solve: Callable[[System], Solution] = optimize
    ) -> Client:
        app = build_app(solve, options or RestOptions(full=True))
        server = HttpServer(app, "127.0.0.1", 0)
        server.start()
        clients.append(Client(server))
        return clients[-1]

    yield begin
    for client in clients:
        client.session.close()
        client.server.stop()


@pytest.fixture
def full(start: Start) -> Client:
    return start(RestOptions(full=True))


@pytest.fixture
def stateless(start: Start) -> Client:
    return start(RestOptions(full=False))


@pytest.fixture(scope="session")
def parts(root: Path) -> dict[str, Any]:
    """The shipped sample, by part."""
    folder = root / "config" / "sample"
    return {
        path.name.removesuffix("-data.json"): json.loads(path.read_text())
        for path in sorted(folder.glob("*-data.json"))
    }


@pytest.fixture(scope="session")
def system(parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "system": {
            "acceleratorData": parts["accelerator"],
            "capacityData": parts["capacity"],
            "modelData": parts["model"],
            "serviceClassData": parts["serviceclass"],
            "serverData": parts["server"],
            "optimizerData": parts["optimizer"],
        }
    }
