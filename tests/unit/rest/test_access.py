from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog
from prometheus_client.parser import text_string_to_metric_families

from controlloop.errors import InputError
from controlloop.optimizer import optimize
from controlloop.rest import bodies
from controlloop.rest.building import build_app
from controlloop.rest.options import RestOptions
from controlloop.rest.server import HttpServer

pytestmark = pytest.mark.slow

SECRET = "open sesame"  # noqa: S105 - it opens nothing


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    return file


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_the_token_nothing_is_told_or_changed(start: Any, token_file: Path) -> None:
    client = start(RestOptions(full=True, token_file=token_file))
    wrong = [
        {},
        bearer("open"),
        bearer(""),
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": "Bearer \xff".encode("latin-1")},
    ]
    for headers in wrong:
        for verb, path in (("GET", "/addModel/m"), ("POST", "/optimize"), ("GET", "/metrics")):
            answer = client.ask(verb, path, b"{}", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "token" in answer.json()["message"]
    assert client.ask("GET", "/getModels", headers=bearer(SECRET)).json() == []
    assert client.ask("GET", "/getModels", headers={"authorization": f"bearer {SECRET}"}).ok


def test_probes_and_the_description_need_no_token(start: Any, token_file: Path) -> None:
    client = start(RestOptions(token_file=token_file))
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert client.ask("GET", path).status_code == 200


def test_a_token_that_is_replaced_counts_at_once(start: Any, token_file: Path) -> None:
    client = start(RestOptions(token_file=token_file))
    renewed = token_file.with_name("renewed")
    renewed.write_text("another")
    renewed.replace(token_file)
    assert client.ask("GET", "/getModels", headers=bearer(SECRET)).status_code == 401
    assert client.ask("GET", "/getModels", headers=bearer("another")).status_code == 200
    token_file.unlink()
    assert client.ask("GET", "/getModels", headers=bearer("another")).status_code == 200


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_server_whose_token_cannot_be_read_does_not_start(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match="token"):
        build_app(optimize, RestOptions(token_file=file))


def test_a_request_keeps_its_id_and_gets_one_if_it_has_no_good_one(full: Any) -> None:
    given = full.ask("GET", "/getModels", headers={"X-Request-ID": "job-7:a.b"})
    assert given.headers["X-Request-ID"] == "job-7:a.b"
    ids = set()
    for bad in (None, "", "a b", "x" * 129, "\xe9".encode("latin-1")):
        for path in ("/getModels", "/none"):
            headers = {} if bad is None else {"X-Request-ID": bad}
            ids.add(full.ask("GET", path, headers=headers).headers["X-Request-ID"])
    assert len(ids) == 10
    assert all(len(each) == 32 for each in ids)


def test_each_request_is_one_line_of_the_log_with_its_id_and_no_secret(
    start: Any, token_file: Path
) -> None:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as lines:
        client = start(RestOptions(full=True, token_file=token_file))
        headers = bearer(SECRET) | {"X-Request-ID": "r1"}
        client.ask("GET", "/getModel/a/b", headers=headers)
        client.ask("GET", "/getModels", headers=bearer("wrong") | {"X-Request-ID": "r2"})
        client.ask("GET", "/healthz")
        client.server.stop()
    told = [line for line in lines if line["event"] == "request"]
    assert [
        (line["request_id"], line["method"], line["path"], line["status"])
        for line in told
        if line["log_level"] == "info"
    ] == [("r1", "GET", "/getModel/a/b", 404), ("r2", "GET", "/getModels", 401)]
    assert SECRET not in json.dumps(lines, default=str)
    assert "wrong" not in json.dumps(lines, default=str)


def test_a_body_over_the_limit_is_refused_however_it_is_sent(start: Any) -> None:
    client = start(RestOptions(full=True, max_body_mb=0.01))
    fits = b'{"models": []}'.ljust(10_000)
    assert client.ask("POST", "/setModels", fits).status_code == 200
    too_large = [fits + b" ", fits.ljust(35_000), fits.ljust(5_000_000)]
    for body in too_large[:2]:
        assert "10000 bytes" in client.refused("POST", "/setModels", 413, body)["message"]
        answer = client.session.post(
            client.url + "/setModels", data=iter([body[:5000], body[5000:]]), timeout=30
        )
        assert answer.status_code == 413
    # So much more is not even read to its end; the client may see that only as an end.
    with suppress(requests.ConnectionError):
        assert client.ask("POST", "/setModels", too_large[2]).status_code == 413
    assert client.ask("POST", "/setModels", fits).status_code == 200


def test_a_body_that_does_not_come_to_its_end_is_given_up(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_WITHIN_S", 0.2)
    client = start(RestOptions(full=True))
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=30) as connection:
        connection.sendall(b"POST /setModels HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_an_unknown_command_and_a_wrong_verb_are_told(full: Any) -> None:
    assert full.refused("GET", "/getAcelerators", 404) == {
        "message": "there is no command GET /getAcelerators; /docs lists them"
    }
    answer = full.ask("POST", "/getModels")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert "does not take POST" in answer.json()["message"]


def test_an_optimizer_that_fails_is_an_answer_without_its_insides(start: Any, system: Any) -> None:
    def fails(system: object) -> Any:
        raise ZeroDivisionError("deep inside")

    client = start(RestOptions(full=True), solve=fails)
    client.get("/addModel/before")
    document = client.refused("POST", "/optimizeOne", 500, system)
    assert document == {"message": "the server failed; its log says why"}
    assert client.get("/getModels") == ["before"]


def test_health_and_metrics_tell_of_the_server(full: Any) -> None:
    assert full.get("/healthz") == {"ok": True, "reasons": []}
    assert full.get("/readyz") == {"ok": True, "reasons": []}
    full.refused("GET", "/getModel/a%2Fb", 404)
    full.refused("GET", "/getModel/c", 404)
    full.refused("GET", "/what", 404)
    samples = {
        (sample.labels["command"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(full.ask("GET", "/metrics").text)
        for sample in family.samples
        if sample.name == "controlloop_rest_requests_total"
    }
    assert samples[("/getModel/{name}", "404")] == 2
    assert samples[("other", "404")] == 1


def test_an_address_of_the_sixth_version_is_listened_on() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    app = build_app(optimize, RestOptions())
    server = HttpServer(app, "::1", 0)
    server.start()
    try:
        assert requests.get(f"http://[::1]:{server.port}/healthz", timeout=10).ok
    finally:
        server.stop()
