"""Faults of the metric source: gone, silent, and its certificate and token changed."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from testbed.daemon import Daemon, holds_of
from testbed.objects import ManagedServer
from testbed.proxy import Proxy
from testbed.stand import Stand
from testbed.waiting import until

NAME = "chat"
TOKENS = ("the-first-token", "the-second-token")
CURVE, ADDRESS = "ec_paramgen_curve:P-256", "subjectAltName=IP:127.0.0.1"
NEW_CERTIFICATE = [
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE),
    *("-nodes", "-days", "2", "-addext", ADDRESS),
]
UNKNOWN = {"signal-missing", "signal-stale", "inert"}


class Gate:
    """A TLS proxy before Prometheus that asks for a bearer token; both can be changed."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self._folder = folder
        self.ca_file, self.token_file = folder / "ca.crt", folder / "token"
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.trust(self.new_certificate("first"))
        self.proxy = Proxy(upstream, serve_tls=self._tls)
        self.proxy.token = TOKENS[0]
        self.token_file.write_text(f"{TOKENS[0]}\n")

    def new_certificate(self, name: str) -> Path:
        """Another authority, which signs itself; served from now on."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        subprocess.run(
            [*NEW_CERTIFICATE, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        self._tls.load_cert_chain(certificate, key)
        return certificate

    def trust(self, certificate: Path) -> None:
        """What the daemon is given to trust from now on."""
        part = self.ca_file.with_suffix(".part")
        part.write_bytes(certificate.read_bytes())
        part.replace(self.ca_file)


@pytest.fixture(scope="module")
def gate(stand: Stand) -> Iterator[Gate]:
    gate = Gate(stand.prometheus.url, stand.folder)
    with closing(gate.proxy):
        gate.proxy.start()
        yield gate


@pytest.fixture(scope="module")
def loop(stand: Stand, gate: Gate) -> Daemon:
    stand.start(ManagedServer(NAME, replicas=2))
    files = {"ca_file": str(gate.ca_file), "token_file": str(gate.token_file)}
    return stand.begin(stand.daemon({"prometheus": files}, gate.proxy.url))


def stall(stand: Stand) -> Callable[[], None]:
    stand.prometheus.program.stall()
    return stand.prometheus.program.resume


def kill(stand: Stand) -> Callable[[], None]:
    stand.prometheus.kill()
    return stand.prometheus.start


FAULTS: dict[str, tuple[Callable[[Stand], Callable[[], None]], str]] = {
    "killed": (kill, "Prometheus at https"),
    "stalled": (stall, "did not answer within"),
}


def assert_blind(stand: Stand, loop: Daemon, words: str) -> None:
    """Nothing is known, nothing is done, and everybody is told why."""
    versions = stand.fleet.deployment(NAME).metadata.resource_version
    blind = loop.await_report(
        lambda one: bool(one["metricsProblem"] and UNKNOWN & holds_of(one, NAME)), "a blind cycle"
    )
    assert words in blind["metricsProblem"]
    loop.await_reports(1)
    for report in loop.reports()[loop.reports().index(blind) :]:
        assert report["succeeded"]
        assert report["patches"] == []
    assert stand.fleet.deployment(NAME).metadata.resource_version == versions
    ready, alive = loop.get("/readyz"), loop.get("/healthz")
    assert ready is not None
    assert (ready.status_code, words in str(ready.json()["reasons"])) == (503, True)
    assert alive is not None
    assert alive.status_code == 200
    assert loop.metric("controlloop_trouble", kind="metrics-lost") == 1
    assert loop.metric("controlloop_metric_source_problem") == 1
    held = [loop.metric("controlloop_holds", reason=reason) for reason in UNKNOWN]
    assert sum(held) >= 1
    began = [one for one in loop.events("trouble-began") if one["kind"] == "metrics-lost"]
    assert words in began[-1]["detail"]
    stand.await_event("controlloop", "MetricsLost", words)


def assert_mended(stand: Stand, loop: Daemon) -> None:
    stand.await_work(loop)
    until(lambda: loop.metric("controlloop_trouble", kind="metrics-lost") == 0, "its end")
    until(
        lambda: (
            [one["reason"] for one in stand.events("controlloop")].count("MetricsBack")
            == len([one for one in loop.events("trouble-ended") if one["kind"] == "metrics-lost"])
        ),
        "the event that it is back",
    )
    stand.assert_nothing_was_lowered()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_prometheus_that_is_gone_or_silent_shrinks_nothing(
    stand: Stand, loop: Daemon, fault: str
) -> None:
    begin, words = FAULTS[fault]
    mend = begin(stand)
    assert_blind(stand, loop, words)
    mend()
    assert_mended(stand, loop)


def rotate_certificate(gate: Gate) -> Callable[[], None]:
    certificate = gate.new_certificate("second")
    gate.proxy.cut_connections()
    return lambda: gate.trust(certificate)


def rotate_token(gate: Gate) -> Callable[[], None]:
    gate.proxy.token = TOKENS[1]
    return lambda: _write(gate.token_file, f"{TOKENS[1]}\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


ROTATIONS: dict[str, tuple[Callable[[Gate], Any], str]] = {
    "certificate": (rotate_certificate, "certificate verify failed"),
    "token": (rotate_token, "HTTP 401"),
}


@pytest.mark.parametrize("what", ROTATIONS)
def test_what_was_rotated_is_read_again_without_a_restart(
    stand: Stand, loop: Daemon, gate: Gate, what: str
) -> None:
    rotate, words = ROTATIONS[what]
    mend = rotate(gate)
    assert_blind(stand, loop, words)
    mend()
    assert_mended(stand, loop)
    for secret in TOKENS:
        assert secret not in loop.log.read_text()
