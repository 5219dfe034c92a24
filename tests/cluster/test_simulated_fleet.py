"""A real Prometheus scrapes a simulated fleet that keeps up with the clock."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import requests
from testbed.prometheus import Prometheus
from testbed.waiting import until

SPEED = 20.0


@pytest.fixture
def address() -> Iterator[str]:
    """Where the fleet's targets are told."""
    command = [sys.executable, "-m", "controlloop", "simulate", "--serve", "--port", "0"]
    options = ["--speed", str(SPEED), "--load", "0.3", "--workload", "steady", "--no-control"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as fleet:
        assert fleet.stderr is not None
        try:
            told = re.match(r"serving (http\S+)", fleet.stderr.readline())
            assert told
            yield told[1]
        finally:
            fleet.send_signal(signal.SIGTERM)
            assert fleet.wait(30) == 0


def test_prometheus_sees_every_replica_of_the_fleet(
    address: str, new_prometheus: Callable[[], Prometheus]
) -> None:
    groups = requests.get(address, timeout=10)
    prometheus = new_prometheus()
    (prometheus.folder / "targets" / "simulation.json").write_bytes(groups.content)
    prometheus.start()
    pods = {group["labels"]["pod"] for group in groups.json()}
    chat = '{server="chat-8b"}'

    def scraped() -> set[str]:
        return {labels["pod"] for labels, value in prometheus.query("up") if value == 1}

    until(lambda: scraped() == pods, "every replica scraped")
    completions = f"sum(rate(vllm:request_success_total{chat}[10s]))"
    until(lambda: (prometheus.value(completions) or 0) > 0, "completions")
    gap = "vllm:time_per_output_token_seconds"
    itl = f"sum(rate({gap}_sum{chat}[10s])) / sum(rate({gap}_count{chat}[10s]))"
    assert 0.005 < (prometheus.value(itl) or 0) < 0.05
    running = prometheus.value(f"sum(vllm:num_requests_running{chat})")
    assert running is not None
    assert running > 0
