from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from controlloop.api.report import CycleReport, Failure, Stage
from controlloop.api.verdict import Verdict
from controlloop.errors import NotLeaderError
from controlloop.rest.endpoints import daemon_app
from controlloop.rest.server import HttpServer


@dataclass
class View:
    report: CycleReport = CycleReport(12.0, ())
    leads: bool = True
    verdict: Verdict = Verdict()
    triggers: list[str] = field(default_factory=list)

    def run_cycle(self, trigger: str) -> CycleReport:
        if not self.leads:
            raise NotLeaderError("the lease's holder is another")
        self.triggers.append(trigger)
        return self.report

    def last_report(self) -> CycleReport | None:
        return self.report if self.triggers else None

    def alive(self) -> Verdict:
        return self.verdict

    def ready(self) -> Verdict:
        return self.verdict


def client(view: View, registry: CollectorRegistry | None = None) -> TestClient:
    return TestClient(daemon_app(view, registry or CollectorRegistry()))


def test_invoke_runs_a_cycle_and_answers_with_its_report() -> None:
    view = View()
    answer = client(view).post("/invoke")
    assert (answer.status_code, answer.json()["time"]) == (200, 12.0)
    assert view.triggers == ["invoke"]


def test_a_cycle_that_failed_is_no_success() -> None:
    failed = CycleReport(12.0, (), failure=Failure(Stage.OBSERVE, "ClusterError", "API down"))
    answer = client(View(failed)).post("/invoke")
    assert (answer.status_code, answer.json()["failure"]["message"]) == (500, "API down")


def test_a_standby_runs_no_cycle_and_says_who_leads() -> None:
    answer = client(View(leads=False)).post("/invoke")
    assert answer.status_code == 503
    assert "holder is another" in answer.json()["message"]


def test_the_last_report_is_shown_once_there_is_one() -> None:
    view = View()
    answer = client(view).get("/report")
    assert (answer.status_code, answer.json()["message"][:36]) == (
        404,
        "this process has run no cycle yet; a",
    )
    client(view).post("/invoke")
    assert client(view).get("/report").json()["time"] == 12.0


def test_health_says_why_not() -> None:
    for path in ("/healthz", "/readyz"):
        assert client(View()).get(path).status_code == 200
        answer = client(View(verdict=Verdict(("metrics: refused",)))).get(path)
        assert answer.status_code == 503
        assert answer.json() == {"ok": False, "reasons": ["metrics: refused"]}


def test_metrics_are_what_prometheus_reads() -> None:
    registry = CollectorRegistry()
    Gauge("a_metric", "what it means", registry=registry).set(3)
    answer = client(View(), registry).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    (family,) = text_string_to_metric_families(answer.text)
    assert family.samples[0].value == 3


def test_the_server_listens_before_start_returns_and_is_gone_after_stop() -> None:
    server = HttpServer(daemon_app(View(), CollectorRegistry()), "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}/healthz"
    try:
        assert requests.get(url, timeout=10).status_code == 200
    finally:
        server.stop()
    try:
        requests.get(url, timeout=1)
    except requests.ConnectionError:
        return
    raise AssertionError("it still answers")


def test_cycles_that_were_asked_for_and_wait_keep_no_probe_from_its_answer() -> None:
    free, inside = threading.Event(), threading.Semaphore(0)

    class Waiting(View):
        def run_cycle(self, trigger: str) -> CycleReport:
            inside.release()
            free.wait(30.0)
            return self.report

    server = HttpServer(daemon_app(Waiting(), CollectorRegistry()), "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    with ThreadPoolExecutor(60) as pool:
        first = [pool.submit(requests.post, f"{url}/invoke", timeout=60) for _ in range(2)]
        for _ in first:
            assert inside.acquire(timeout=10.0)
        more = [pool.submit(requests.post, f"{url}/invoke", timeout=60) for _ in range(50)]
        assert {each.result().status_code for each in more} == {429}
        for path in ("/healthz", "/readyz", "/metrics"):
            assert requests.get(url + path, timeout=10).status_code == 200
        free.set()
        assert [each.result().status_code for each in first] == [200, 200]
    assert requests.post(f"{url}/invoke", timeout=60).status_code == 200
    server.stop()
