"""The client of Prometheus against HTTP servers with every fault a real one can have."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from controlloop.clock import SystemClock
from controlloop.collector.prometheus import Access, PrometheusSource
from controlloop.collector.series import MetricsUnavailableError
from controlloop.errors import MetricsError, SettingsError

NOW = 1_700_000_000.5
SELECTOR = 'up{pod=~"a|b"}[60000ms]'


def matrix(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    data = {"resultType": "matrix", "result": list(entries)}
    return {"status": "success", "data": data} | more


ONE_SERIES = {"metric": {"__name__": "up", "pod": "a"}, "values": [[1.0, "1"], [2.5, "4.5"]]}


@dataclass
class Answering:
    """A server whose next answers are set by the test, and what it was asked."""

    body: Any = field(default_factory=lambda: matrix(ONE_SERIES))
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    say: Callable[[BaseHTTPRequestHandler], None] | None = None
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(parse_qs(urlsplit(request.path).query))
        self.authorizations.append(request.headers["Authorization"])
        if self.say is not None:
            self.say(request)
            return
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        request.send_response(self.status)
        for key, value in self.headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, answering: Answering, *args: Any) -> None:
        self._answering = answering
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answering.handle(self)

    def log_message(self, *args: object) -> None:
        """Nothing."""


def _serve(stack: ExitStack, tls: ssl.SSLContext | None = None, port: int = 0) -> Answering:
    answering = Answering()
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, answering))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    stack.callback(answering.released.set)
    scheme = "http" if tls is None else "https"
    answering.url = f"{scheme}://127.0.0.1:{server.server_port}"
    return answering


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack: ExitStack) -> Answering:
    return _serve(stack)


@pytest.fixture
def source(server: Answering, stack: ExitStack) -> PrometheusSource:
    source = PrometheusSource(server.url)
    stack.callback(source.close)
    return source


def test_samples_come_with_the_times_at_which_they_were_scraped(
    server: Answering, source: PrometheusSource
) -> None:
    (series,) = source.select(SELECTOR, NOW, 5.0)
    assert series.name == "up"
    assert series.label("pod") == "a"
    assert series.times == (1.0, 2.5)
    assert series.values == (1.0, 4.5)
    (asked,) = server.asked
    assert asked == {"query": [SELECTOR], "time": ["1700000000.500"], "timeout": ["5.000"]}


def test_values_that_are_not_finite_are_left_out(
    server: Answering, source: PrometheusSource
) -> None:
    samples = [[1.0, "NaN"], [2.0, "7"], [3.0, "+Inf"], [4.0, "-Inf"]]
    server.body = matrix({"metric": {}, "values": samples})
    (series,) = source.select(SELECTOR, NOW, 5.0)
    assert (series.times, series.values) == ((2.0,), (7.0,))


def test_a_compressed_answer_is_read(server: Answering, source: PrometheusSource) -> None:
    server.body = gzip.compress(json.dumps(matrix(*[ONE_SERIES] * 5000)).encode())
    server.headers["Content-Encoding"] = "gzip"
    assert len(source.select(SELECTOR, NOW, 5.0)) == 5000


def test_a_partial_answer_is_no_answer(server: Answering, source: PrometheusSource) -> None:
    server.body = matrix(ONE_SERIES, warnings=["store s-1 is down"])
    with pytest.raises(MetricsError, match="partial: store s-1 is down"):
        source.select(SELECTOR, NOW, 5.0)
    server.body = matrix({"metric": {"warnings": "none"}, "values": []}, infos=["a hint"])
    assert len(source.select(SELECTOR, NOW, 5.0)) == 1


def test_a_query_that_is_refused_says_why(server: Answering, source: PrometheusSource) -> None:
    server.status, server.body = 422, {"status": "error", "error": "too many samples"}
    with pytest.raises(MetricsError, match="HTTP 422: too many samples") as caught:
        source.select(SELECTOR, NOW, 5.0)
    assert not isinstance(caught.value, MetricsUnavailableError)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504])
def test_a_refusal_that_holds_for_every_query_is_not_tried_again(
    server: Answering, source: PrometheusSource, status: int
) -> None:
    server.status, server.body = status, b"no"
    with pytest.raises(MetricsUnavailableError, match=f"HTTP {status}: no"):
        source.select(SELECTOR, NOW, 5.0)
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed(server: Answering, source: PrometheusSource) -> None:
    server.status, server.headers["Location"] = 302, f"{server.url}/login"
    with pytest.raises(MetricsError, match="HTTP 302"):
        source.select(SELECTOR, NOW, 5.0)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>login</html>",
        {"status": "success"},
        [1, 2],
        {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "3"]}},
        matrix({"metric": {}, "value": [1.0, "3"]}),
        matrix({"metric": {}, "values": [[1.0, "three"]]}),
        {"status": "success", "data": {"result": "x"}},
    ],
)
def test_an_answer_that_is_not_understood_is_an_error(
    server: Answering, source: PrometheusSource, body: Any
) -> None:
    server.body = body
    with pytest.raises(MetricsError, match="Prometheus at http"):
        source.select(SELECTOR, NOW, 5.0)


def test_nobody_there(source: PrometheusSource, stack: ExitStack) -> None:
    stack.close()
    with pytest.raises(MetricsUnavailableError, match=r"cannot be reached: .*refused"):
        source.select(SELECTOR, NOW, 5.0)


def test_a_server_that_hangs_is_given_up(server: Answering, source: PrometheusSource) -> None:
    def hang(_: BaseHTTPRequestHandler) -> None:
        server.released.wait(30)

    server.say = hang
    with pytest.raises(MetricsUnavailableError, match=r"did not answer within 0\.2 s"):
        source.select(SELECTOR, NOW, 0.2)
    assert len(server.asked) == 1


def test_an_answer_that_trickles_in_is_given_up(
    server: Answering, source: PrometheusSource
) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        while not server.released.wait(0.02):
            try:
                request.wfile.write(b" ")
            except OSError:
                return

    server.say = trickle
    with pytest.raises(MetricsUnavailableError, match="did not end within its time-out"):
        source.select(SELECTOR, NOW, 0.3)


def test_an_answer_that_breaks_off_is_no_answer(
    server: Answering, source: PrometheusSource
) -> None:
    def break_off(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(b'{"status"')
        request.close_connection = True

    server.say = break_off
    with pytest.raises(MetricsUnavailableError, match="broke off"):
        source.select(SELECTOR, NOW, 5.0)


def test_after_a_fault_the_next_query_is_answered(
    server: Answering, source: PrometheusSource
) -> None:
    server.status = 503
    with pytest.raises(MetricsUnavailableError):
        source.select(SELECTOR, NOW, 5.0)
    server.status = 200
    assert len(source.select(SELECTOR, NOW, 5.0)) == 1


def test_a_token_that_is_renewed_is_used_at_once(
    server: Answering, stack: ExitStack, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    source = PrometheusSource(server.url, Access(token_file=str(file)))
    stack.callback(source.close)
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        source.select(SELECTOR, NOW, 5.0)
    assert server.authorizations == ["Bearer first", "Bearer second"]


def test_basic_authentication(server: Answering, stack: ExitStack, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pässword\n")
    source = PrometheusSource(server.url, Access(username="me", password_file=str(file)))
    stack.callback(source.close)
    source.select(SELECTOR, NOW, 5.0)
    (sent,) = server.authorizations
    assert sent is not None
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "me:pässword"


@pytest.mark.parametrize("content", [None, "", "a\nb", "\x00"])
def test_a_token_that_cannot_be_read_is_named_and_never_shown(
    server: Answering, stack: ExitStack, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    source = PrometheusSource(server.url, Access(token_file=str(file)))
    stack.callback(source.close)
    with pytest.raises(MetricsUnavailableError, match=str(file)):
        source.select(SELECTOR, NOW, 5.0)
    assert server.asked == []


@pytest.mark.parametrize("url", ["", "prometheus:9090", "ftp://host", "http://", "http://[::1"])
def test_what_is_no_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="must be an address"):
        PrometheusSource(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        PrometheusSource("http://me:secret@host:9090")
    assert "secret" not in str(caught.value)


def _certificate(folder: Path, name: str) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    folder.mkdir()
    made = folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "1",
        "-subj",
        f"/CN={name}",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(
        [*command, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    made.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder


def test_a_certificate_authority_that_is_renewed_is_trusted_at_once(
    stack: ExitStack, tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.pem"
    old, new = _certificate(tmp_path / "old", "old"), _certificate(tmp_path / "new", "new")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(new / "both.pem")
    server = _serve(stack, tls)
    trusted.write_text((old / "cert.pem").read_text())
    source = PrometheusSource(server.url, Access(ca_file=str(trusted)))
    stack.callback(source.close)
    with pytest.raises(MetricsUnavailableError, match="certificate verify failed"):
        source.select(SELECTOR, NOW, 5.0)
    trusted.write_text((new / "cert.pem").read_text())
    assert len(source.select(SELECTOR, NOW, 5.0)) == 1
    # Trust that is withdrawn ends also what was connected under it.
    trusted.write_text((old / "cert.pem").read_text())
    with pytest.raises(MetricsUnavailableError, match="certificate verify failed"):
        source.select(SELECTOR, NOW, 5.0)
    trusted.unlink()
    with pytest.raises(MetricsUnavailableError, match="No such file"):
        source.select(SELECTOR, NOW, 5.0)


@pytest.mark.parametrize(("off_s", "words"), [(-600.0, "ahead of ours"), (600.0, "behind ours")])
def test_a_clock_that_is_off_makes_no_old_sample_fresh(
    server: Answering, off_s: float, words: str
) -> None:
    class Off(SystemClock):
        def now(self) -> float:
            return super().now() + off_s

    with pytest.raises(MetricsUnavailableError, match=words):
        PrometheusSource(server.url, clock=Off()).select(SELECTOR, NOW, 5.0)
