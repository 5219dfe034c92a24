from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from controlloop.api.solution import Solution
from controlloop.api.system import System
from controlloop.optimizer import optimize
from controlloop.rest.options import RestOptions

WITHIN_S = 30.0


class Gate:
    """An optimizer that waits, once asked, until it is let through."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, system: System) -> Solution:
        self.asked.release()
        assert self.opened.wait(WITHIN_S)
        return optimize(system)

    def await_question(self) -> None:
        assert self.asked.acquire(timeout=WITHIN_S)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def load(rate: float) -> dict[str, float]:
    return {"arrivalRate": rate, "avgInTokens": 128, "avgOutTokens": 256}


def server(name: str, rate: float, **more: Any) -> dict[str, Any]:
    model = {"class": "Premium", "model": "llama-3.1-8b"}
    return {"name": name, **model, "currentAlloc": {"load": load(rate)}, **more}


@pytest.fixture
def gated(start: Any, gate: Gate, parts: Any) -> Any:
    """A server with the sample's data, servers a, b, c, and an optimizer that waits."""
    client = start(RestOptions(full=True), solve=gate)
    client.post("/setAccelerators", parts["accelerator"])
    client.post("/setCapacities", parts["capacity"])
    client.post("/setModels", parts["model"])
    client.post("/setServiceClasses", parts["serviceclass"])
    client.post("/setServers", {"servers": [server(name, 60) for name in "abc"]})
    return client


def meanwhile(ask: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    return thread, answers


def test_reads_and_changes_are_answered_while_it_optimizes(gated: Any, gate: Gate) -> None:
    thread, answers = meanwhile(lambda: gated.post("/optimize", {}))
    gate.await_question()
    other = requests.Session()
    for path in ("/getServers", "/addModel/new", "/healthz", "/metrics"):
        assert other.get(gated.url + path, timeout=WITHIN_S).ok
    assert thread.is_alive()
    gate.opened.set()
    thread.join(WITHIN_S)
    other.close()
    assert answers[0]["allocations"].keys() == {"a", "b", "c"}


def test_what_changed_while_it_optimized_gets_no_allocation_of_before(
    gated: Any, gate: Gate
) -> None:
    thread, answers = meanwhile(lambda: gated.post("/optimize", {}))
    gate.await_question()
    other = requests.Session()
    for change in (server("b", 120), server("d", 1)):
        assert other.post(gated.url + "/addServer", json=change, timeout=WITHIN_S).ok
    assert other.get(gated.url + "/removeServer/c", timeout=WITHIN_S).ok
    other.close()
    gate.opened.set()
    thread.join(WITHIN_S)
    servers = {each["name"]: each for each in gated.get("/getServers")["servers"]}
    assert {name: "desiredAlloc" in each for name, each in servers.items()} == {
        "a": True,
        "b": False,
        "d": False,
    }
    assert servers["a"]["desiredAlloc"] == answers[0]["allocations"]["a"]


def test_a_server_that_nothing_was_found_for_keeps_what_it_has(gated: Any, gate: Gate) -> None:
    gate.opened.set()
    old = {"accelerator": "L4", "numReplicas": 9, "load": load(60)}
    lost = server("x", 60, model="unknown", currentAlloc=old, desiredAlloc={"numReplicas": 0})
    gated.post("/addServer", lost)
    assert "x" in gated.post("/optimize", {})["unserved"]
    gated.get("/applyAllocation")
    assert gated.get("/getServer/x")["currentAlloc"]["numReplicas"] == 9


def test_of_two_optimizations_the_one_asked_last_is_kept(gated: Any, gate: Gate) -> None:
    first, _ = meanwhile(lambda: gated.post("/optimize", {"unlimited": True}))
    gate.await_question()
    session = requests.Session()
    second, _ = meanwhile(
        lambda: session.post(gated.url + "/optimize", json={}, timeout=WITHIN_S).json()
    )
    third = requests.Session()
    while "under_way 3.0" not in third.get(gated.url + "/metrics", timeout=WITHIN_S).text:
        time.sleep(0.01)
    for type_ in ("L4", "A100", "H100"):
        third.post(gated.url + "/setCapacity", json={"type": type_, "count": 0}, timeout=WITHIN_S)
    gate.opened.set()
    first.join(WITHIN_S)
    second.join(WITHIN_S)
    kinds = {each["name"]: each["type"] for each in gated.get("/getAccelerators")["accelerators"]}
    for each in gated.get("/getServers")["servers"]:
        desired = each.get("desiredAlloc", {}).get("accelerator", "")
        assert kinds.get(desired) not in {"L4", "A100", "H100"}
    session.close()
    third.close()


def test_a_stop_finishes_the_requests_under_way_and_takes_no_others(gated: Any, gate: Gate) -> None:
    thread, answers = meanwhile(lambda: gated.post("/optimize", {}))
    gate.await_question()
    stopping = threading.Thread(target=gated.server.stop)
    stopping.start()
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            requests.get(gated.url + "/healthz", timeout=1)
        except requests.ConnectionError:
            break
    assert stopping.is_alive()
    assert not answers
    gate.opened.set()
    thread.join(WITHIN_S)
    stopping.join(WITHIN_S)
    assert answers[0]["allocations"]


class TornError(AssertionError):
    """A reader saw half a change."""


class Crowd:
    """Eight clients that each do their own thing until time is up."""

    def __init__(self, url: str, system: dict[str, Any], seconds: float) -> None:
        self.url = url
        self.system = system
        self.until = time.monotonic() + seconds
        self.done: dict[str, int] = {}

    def repeat(self, name: str, turn: Callable[[Callable[..., Any], int], None]) -> None:
        session = requests.Session()
        session.trust_env = False

        def ask(path: str, body: Any = None) -> Any:
            verb = "GET" if body is None else "POST"
            answer = session.request(verb, self.url + path, json=body, timeout=WITHIN_S)
            assert answer.status_code == 200, (path, answer.status_code, answer.text)
            return answer.json()

        while time.monotonic() < self.until:
            turn(ask, self.done.get(name, 0))
            self.done[name] = self.done.get(name, 0) + 1
        session.close()

    def set_pairs(self, ask: Callable[..., Any], turn: int) -> None:
        counts = [{"type": type_, "count": turn} for type_ in ("A100", "L4")]
        ask("/setCapacities", {"count": counts})

    def read_pairs(self, ask: Callable[..., Any], turn: int) -> None:
        counts = {each["type"]: each["count"] for each in ask("/getCapacities")["count"]}
        if len({counts.get("A100"), counts.get("L4")}) != 1:
            raise TornError(counts)

    def set_servers(self, ask: Callable[..., Any], turn: int) -> None:
        ask("/setServers", {"servers": [server(f"s{index}", 60 + turn) for index in range(20)]})

    def read_servers(self, ask: Callable[..., Any], turn: int) -> None:
        servers = ask("/getServers")["servers"]
        rates = {each["currentAlloc"]["load"]["arrivalRate"] for each in servers}
        desired = {
            each["desiredAlloc"]["load"]["arrivalRate"]
            for each in servers
            if "desiredAlloc" in each
        }
        if len(rates) > 1 or not desired <= rates:
            raise TornError(rates, desired)

    def optimize(self, ask: Callable[..., Any], turn: int) -> None:
        rates = {
            each["load"]["arrivalRate"]
            for each in ask("/optimize", {"unlimited": True})["allocations"].values()
        }
        if len(rates) > 1:
            raise TornError(rates)

    def apply(self, ask: Callable[..., Any], turn: int) -> None:
        ask("/applyAllocation")

    def optimize_one(self, ask: Callable[..., Any], turn: int) -> None:
        system = {**self.system["system"]}
        system["serverData"] = {"servers": [server(f"t{index}", 30) for index in range(10)]}
        counts = [{"type": type_, "count": 7} for type_ in ("A100", "L4")]
        system["capacityData"] = {"count": counts}
        answer = ask("/optimizeOne", {"system": system})
        named = answer["allocations"].keys() | answer.get("unserved", {}).keys()
        if named != {f"t{index}" for index in range(10)}:
            raise TornError(named)

    def edit(self, ask: Callable[..., Any], turn: int) -> None:
        ask(f"/addModel/org/model-{turn % 50}")
        ask(f"/addServiceClass/class-{turn % 50}/{turn % 100}")
        ask("/getModels")
        ask("/getServiceClasses")


@pytest.mark.slow
def test_eight_clients_see_no_half_change_and_no_error(
    start: Any, system: Any, tmp_path: Any
) -> None:
    client = start(RestOptions(full=True, state_file=tmp_path / "state.json"))
    client.post("/optimizeOne", system)
    crowd = Crowd(client.url, system, 30.0)
    crowd.set_pairs(client.post, 0)
    client.post("/setServers", {"servers": []})
    turns = (
        crowd.set_pairs,
        crowd.read_pairs,
        crowd.set_servers,
        crowd.read_servers,
        crowd.optimize,
        crowd.apply,
        crowd.optimize_one,
        crowd.edit,
    )
    with ThreadPoolExecutor(len(turns)) as pool:
        running = [pool.submit(crowd.repeat, turn.__name__, turn) for turn in turns]
    for each in running:
        each.result()
    assert len(crowd.done) == 8
    assert min(crowd.done.values()) > 5
