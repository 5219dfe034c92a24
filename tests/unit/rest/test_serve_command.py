from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from controlloop import telemetry
from controlloop.cli.app import app
from controlloop.errors import InputError, UnknownPluginError
from controlloop.rest import building
from controlloop.rest.options import RestOptions

pytestmark = pytest.mark.slow

WITHIN_S = 60.0


class Process:
    """`controlloop serve` as its own process, listening."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "controlloop", "serve", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self.process.stderr is not None
        self.stderr = self.process.stderr
        self.first = json.loads(self.stderr.readline())
        self.url = f"http://127.0.0.1:{self.first['port']}"
        self.rest: list[str] = []
        self._reading = threading.Thread(target=lambda: self.rest.extend(self.stderr))
        self._reading.start()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WITHIN_S)
        self._reading.join(WITHIN_S)
        self.stderr.close()
        return code


@pytest.fixture
def serve() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*arguments: str, **environment: str) -> Process:
        environment.setdefault("INFERNO_PORT", "0")
        started.append(Process(arguments, environment))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


@contextmanager
def quiet_session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_it_takes_host_and_port_from_the_environment_and_is_stateless(serve: Any) -> None:
    server = serve(INFERNO_HOST="127.0.0.1")
    assert (server.first["host"], server.first["mode"]) == ("127.0.0.1", "stateless")
    with quiet_session() as session:
        assert session.get(server.url + "/addModel/m", timeout=WITHIN_S).status_code == 409
    assert server.end(signal.SIGINT) == 0


def test_a_stateful_one_keeps_its_state_over_a_kill(serve: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "state.json")
    with quiet_session() as session:
        first = serve("-F", "--state-file", file)
        assert first.first["mode"] == "stateful"
        assert session.get(first.url + "/addModel/a/b", timeout=WITHIN_S).ok
        first.end(signal.SIGKILL)
        second = serve("--full", "--state-file", file)
        assert session.get(second.url + "/getModels", timeout=WITHIN_S).json() == ["a/b"]
        assert second.end() == 0


def test_sigterm_finishes_the_request_under_way(serve: Any, system: Any) -> None:
    server = serve()
    pattern = system["system"]["serverData"]["servers"]
    many = [pattern[i % len(pattern)] | {"name": f"s{i}"} for i in range(3000)]
    body = {"system": {**system["system"], "serverData": {"servers": many}}}
    answers: list[requests.Response] = []

    def ask() -> None:
        with quiet_session() as session:
            answers.append(session.post(server.url + "/optimizeOne", json=body, timeout=WITHIN_S))

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + WITHIN_S
    with quiet_session() as session:
        while "under_way 2.0" not in session.get(server.url + "/metrics", timeout=WITHIN_S).text:
            assert time.monotonic() < deadline
    assert server.end() == 0
    thread.join(WITHIN_S)
    assert answers[0].status_code == 200
    document = answers[0].json()
    assert len(document["allocations"].keys() | document["unserved"].keys()) == 3000
    events = [json.loads(line)["event"] for line in server.rest]
    assert events[-1] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--state-file", "x"), 2, "--state-file: keeps the state of a stateful server"),
        (("--port", "70000"), 2, "--port"),
        (("--token-file", "/nowhere/token"), 2, "/nowhere/token: cannot be read"),
        (("-F", "--state-file", "/nowhere/state"), 1, "/nowhere/state"),
        (("--host", "host.invalid"), 1, "cannot listen on host.invalid"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    command = [sys.executable, "-m", "controlloop", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_torn_state_file_is_refused_at_start(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"kind": "controlloop optimizer st')
    command = [sys.executable, "-m", "controlloop", "serve", "-F", "--state-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 2
    assert "is not JSON" in done.stderr
    assert "move it away to start empty" in done.stderr


def test_limits_and_queue_model_of_the_command_line_are_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[RestOptions] = []
    monkeypatch.setattr(building, "run_server", lambda _, options: given.append(options))
    monkeypatch.setattr(telemetry, "set_up_logs", lambda _: None)
    arguments = ["serve", "--time-limit", "7", "--gap", "0.02", "--queue-model", "mm1k"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ["serve"]).exit_code == 0
    assert [(each.time_limit_s, each.gap, each.queue_model) for each in given] == [
        (7.0, 0.02, "mm1k"),
        (None, None, "state-dependent"),
    ]
    for wrong in (
        ("--gap", "3"),
        ("--time-limit", "0"),
        ("--queue-model", "nobody"),
        ("--plugin", "no-factory"),
        ("--plugin", "no_such_module:Factory"),
    ):
        result = CliRunner().invoke(app, ["serve", *wrong])
        assert isinstance(result.exception, (InputError, UnknownPluginError))
    assert len(given) == 2
