from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from controlloop.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    SettingsError,
    UnavailableError,
)
from controlloop.kube.connection import Connection, ConnectionOptions, connect
from controlloop.kube.resources import PODS

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """An HTTP server that answers as the test says, one answer a request, and keeps count."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0
    over: Event = field(default_factory=Event)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked.append((request.command, parts.path, query, body))
        self.answers.pop(0)(request)


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[int, list[Server]]]:
    """One port for all tests of this file, and whose answers it gives now (the last)."""
    turns: list[Server] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            turns[-1].handle(self)

        def do_PATCH(self) -> None:
            turns[-1].handle(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http.server_port, turns
        http.shutdown()


@pytest.fixture
def server(listening: tuple[int, list[Server]]) -> Iterator[Server]:
    port, turns = listening
    turns.append(Server(port=port))
    yield turns[-1]
    turns[-1].over.set()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [
                    {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
                ],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


@pytest.fixture
def connection(kubeconfig: Path) -> Iterator[Connection]:
    connection = connect(ConnectionOptions(kubeconfig=str(kubeconfig), page_size=2))
    yield connection
    connection.close()


def says(status: int, body: Any, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def page(*names: str, following: str = "") -> Answer:
    return says(
        200, {"items": [{"n": name} for name in names], "metadata": {"continue": following}}
    )


def names(things: list[Any]) -> list[str]:
    return [thing["n"] for thing in things]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidObjectError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, UnavailableError),
        (422, InvalidObjectError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
        (418, ClusterError),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_the_server_said(
    server: Server, connection: Connection, status: int, kind: type[ClusterError]
) -> None:
    server.answers = [says(status, {"kind": "Status", "message": "because of this"})]
    with pytest.raises(kind) as caught:
        connection.get("/x", "read Pod a/b", 5.0)
    assert type(caught.value) is kind or status == 410
    assert str(caught.value).startswith("cannot read Pod a/b: because of this (HTTP ")
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
def test_nothing_is_asked_twice_even_when_the_server_offers_it(
    server: Server, connection: Connection, status: int
) -> None:
    server.answers = [says(status, b"busy", Retry_After="0"), says(200, {})]
    with pytest.raises(UnavailableError, match="busy"):
        connection.get("/x", "read it", 5.0)
    assert len(server.asked) == 1


def test_a_server_that_hangs_up_is_unavailable(server: Server, connection: Connection) -> None:
    server.answers = [lambda request: request.connection.close()]
    with pytest.raises(UnavailableError, match="cannot read it"):
        connection.get("/x", "read it", 5.0)
    assert len(server.asked) == 1


def test_a_server_that_nobody_runs_is_unavailable(tmp_path: Path, kubeconfig: Path) -> None:
    content = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    nobody = tmp_path / "nobody"
    nobody.write_text(yaml.safe_dump(content))
    with pytest.raises(UnavailableError, match="cannot read it"):
        connect(ConnectionOptions(str(nobody))).get("/x", "read it", 5.0)


def test_a_stalled_answer_ends_at_the_time_out(server: Server, connection: Connection) -> None:
    server.answers = [lambda _: (server.over.wait(30.0), None)[1]]
    with pytest.raises(UnavailableError, match="cannot read it"):
        connection.get("/x", "read it", 0.2)


def test_a_trickle_of_an_answer_ends_too(server: Server, connection: Connection) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while not server.over.wait(0.02):
            try:
                request.wfile.write(b"1\r\n \r\n")
            except OSError:
                return

    server.answers = [trickle]
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        connection.get("/x", "read it", 0.3)
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b"[1]"])
def test_an_answer_that_is_no_object_is_no_knowledge(
    server: Server, connection: Connection, body: bytes
) -> None:
    server.answers = [says(200, body)]
    with pytest.raises(UnavailableError, match="the answer is no"):
        connection.get("/x", "read it", 5.0)


def test_the_server_is_told_our_time_out(server: Server, connection: Connection) -> None:
    server.answers = [says(200, {})]
    connection.send("PATCH", "/x", "patch it", 1.5, {"a": 1}, [("dryRun", "All")])
    ((method, path, query, body),) = server.asked
    assert (method, path, body) == ("PATCH", "/x", {"a": 1})
    assert query["dryRun"] == "All"
    assert 0 < int(query["timeout"].removesuffix("ms")) <= 1500


def test_a_request_whose_time_is_up_is_not_sent(server: Server, connection: Connection) -> None:
    with pytest.raises(UnavailableError, match="time is up"):
        connection.get("/x", "read it", 0.0)
    assert server.asked == []


def test_a_long_list_is_read_page_by_page(server: Server, connection: Connection) -> None:
    server.answers = [page("a", "b", following="next"), page("c")]
    assert names(connection.items(PODS, 5.0, "llm")) == ["a", "b", "c"]
    assert [query.get("continue") for _, _, query, _ in server.asked] == [None, "next"]
    assert {path for _, path, _, _ in server.asked} == {"/api/v1/namespaces/llm/pods"}
    assert {query["limit"] for _, _, query, _ in server.asked} == {"2"}


def test_a_list_that_expired_between_pages_is_read_anew_once(
    server: Server, connection: Connection
) -> None:
    expired = says(410, {"message": "too old"})
    server.answers = [page("a", following="next"), expired, page("b", "c")]
    assert names(connection.items(PODS, 5.0)) == ["b", "c"]
    server.answers = [expired, expired, page("d")]
    with pytest.raises(UnavailableError, match="too old"):
        connection.items(PODS, 5.0)


@pytest.mark.parametrize(
    ("content", "context"),
    [("", ""), ("{", ""), ("[]", ""), ("a: 1", ""), (None, ""), ("kept", "elsewhere")],
)
def test_a_kubeconfig_that_cannot_be_used_is_bad_input(
    kubeconfig: Path, tmp_path: Path, content: str | None, context: str
) -> None:
    path = tmp_path / "other"
    if content is not None:
        path.write_text(kubeconfig.read_text() if content == "kept" else content)
    with pytest.raises(SettingsError) as caught:
        connect(ConnectionOptions(str(path), context))
    assert str(path) in str(caught.value)
    assert context in str(caught.value)


def test_a_trickle_of_known_length_ends_too(server: Server, connection: Connection) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        while not server.over.wait(0.05):
            try:
                request.wfile.write(b" ")
            except OSError:
                return

    server.answers = [trickle]
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="too slowly"):
        connection.get("/x", "read it", 0.3)
    assert time.monotonic() - began < 20.0


def test_a_write_is_not_sent_once_its_credentials_took_its_time(
    server: Server, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_program(configuration: Any) -> None:
        time.sleep(0.3)

    monkeypatch.setattr(connection._client.configuration, "refresh_api_key_hook", slow_program)
    with pytest.raises(UnavailableError, match="time is up"):
        connection.send("PATCH", "/x", "patch it", 0.2, {"a": 1})
    assert server.asked == []


def test_a_kubeconfig_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such kubeconfig"):
        connect(ConnectionOptions(kubeconfig=str(tmp_path / "config")))


@pytest.mark.parametrize("text", ["garbage", "[1, 2]", "7"])
def test_a_file_that_is_no_kubeconfig_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(SettingsError, match="it is no kubeconfig"):
        connect(ConnectionOptions(kubeconfig=str(file)))
