"""The pages of simulated replicas read as a vLLM's do, and keep up with the clock."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlloop.api.system import System
from controlloop.clock import ManualClock
from controlloop.collector.dialects import VLLM, Ratio
from controlloop.simulator.events import EventPlant
from controlloop.simulator.live import LiveFleet
from controlloop.simulator.pages import Pages
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Steady


@pytest.fixture
def plant(catalog: System, small: PlantServer) -> EventPlant:
    workload = Generated(Steady(4.0), TokenLengths(512, 256, 0.3, 0.3))
    return EventPlant(catalog, (small,), (workload,), step_s=1.0)


def fetch(pages: Pages, path: str) -> tuple[int, dict[bytes, bytes], str]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "headers": [(b"host", b"sim:9100")]}
    asyncio.run(pages(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()


def values(page: str) -> dict[str, float]:
    found = text_string_to_metric_families(page)
    return {one.name: one.value for family in found for one in family.samples}


def test_a_page_has_every_name_that_the_collector_asks_for(plant: EventPlant) -> None:
    plant.advance_to(120.0)
    status, headers, page = fetch(Pages(plant.replicas), "/metrics/small-1")
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    seen = values(page)

    def ratios() -> Iterator[Ratio]:
        for signal in (VLLM.input_tokens, VLLM.output_tokens, VLLM.ttft_s, VLLM.itl_s):
            yield from signal

    for ratio in ratios():
        assert seen[ratio.count] > 0
    assert seen["vllm:request_prompt_tokens_sum"] / seen["vllm:request_prompt_tokens_count"] > 400
    itl = "vllm:time_per_output_token_seconds"
    assert 0.011 < seen[f"{itl}_sum"] / seen[f"{itl}_count"] < 0.025
    meters = [values(fetch(Pages(plant.replicas), f"/metrics/small-{each}")[2]) for each in (1, 2)]
    total = plant.meters()["small"]
    done = sum(meter["vllm:request_success_total"] for meter in meters)
    inside = sum(
        meter["vllm:num_requests_running"] + meter["vllm:num_requests_waiting"] for meter in meters
    )
    assert done == total.completed > 300
    assert done + inside == total.arrived


def test_targets_follow_the_replicas(plant: EventPlant) -> None:
    pages = Pages(plant.replicas)

    def pods() -> list[str]:
        status, headers, body = fetch(pages, "/targets")
        assert (status, headers[b"content-type"]) == (200, b"application/json")
        groups = json.loads(body)
        assert all(group["targets"] == ["sim:9100"] for group in groups)
        return [group["labels"]["pod"] for group in groups]

    assert pods() == ["small-1", "small-2"]
    plant.scale(plant.workloads()[0].ref, 3)
    plant.advance_to(61.0)
    assert pods() == ["small-1", "small-2", "small-3"]
    assert fetch(pages, "/metrics/small-9")[0] == 404


def test_a_live_fleet_keeps_its_pace_and_ends(plant: EventPlant) -> None:
    told: list[float] = []
    live = LiveFleet(plant, None, ManualClock(), period_s=10.0, speed=60.0, told=told.append)

    class Wall:
        """Half a second passes whenever it is asked."""

        seconds = 0.0

        def now(self) -> float:
            return self.monotonic()

        def monotonic(self) -> float:
            self.seconds += 0.5
            return self.seconds

    stop = threading.Event()
    wall = Wall()
    live.run(wall, 120.0, stop)
    assert plant.time == 120.0
    assert told == [10.0 * each for each in range(1, 13)]
    assert wall.seconds == pytest.approx(0.5 + 120.0 / 60.0)
    stop.set()
    live.run(wall, 500.0, stop)
    assert plant.time == 120.0
