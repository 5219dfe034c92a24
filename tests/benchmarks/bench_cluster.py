"""`make bench-cluster`: what a cycle costs on a real control plane with a thousand Deployments.

The control plane, its nodes and pods, Prometheus and the emulated servers run beside the daemon
on the same cores. So its wall time has all of theirs in it: each cycle's table says what each of
them used of the processors meanwhile, and what of the wall time the daemon itself spent in its
stages. A target is missed where both the daemon's wall time and its CPU time exceed it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests
from processors import CpuSeconds, used
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from testbed.build import find_programs
from testbed.control_plane import ADMIN, ControlPlane
from testbed.daemon import Daemon
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.pods import PodFollower
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy, Request
from testbed.replica import Load
from testbed.waiting import until

STEADY_TARGET_S = 6.0
CHANGES_TARGET_S = 20.0
MOST_REQUESTS = 4
STEADY_CYCLES = 5
CALM_RPS, BUSY_RPS = 21.0, 36.0
"""Of each replica, of which one serves 26 within its objectives: the calm ones are to stay."""
MINUTES_S = 60.0

STDERR = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    servers: int
    replicas: int
    nodes: int
    changes: int
    scrape_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of cycle; `requests` are those of one cycle, watches and the Lease left out."""

    cycle: str
    wall_s: float
    observing_s: float
    cpu: CpuSeconds
    peak_mb: float
    requests: float
    patches: int
    target_s: float

    @property
    def missed(self) -> bool:
        """Whether it took longer than it may, by the clock and by the processor."""
        return min(self.wall_s, self.cpu.daemon) > self.target_s


class Bench:
    """The fleet under load, and a daemon that runs a cycle when asked."""

    def __init__(self, stack: ExitStack, size: Size, folder: Path) -> None:
        self.size = size
        programs = find_programs()
        (folder / "plane").mkdir()
        plane = stack.enter_context(closing(ControlPlane(programs, folder / "plane")))
        plane.start()
        self.fleet = Fleet(plane, "bench")
        self.emulator = stack.enter_context(closing(Emulator("bench")))
        self.emulator.start()
        self.names = [f"server-{number:04}" for number in range(size.servers)]
        self._create()
        follower = stack.enter_context(closing(PodFollower(plane, "bench")))
        follower.start()
        (folder / "prometheus").mkdir()
        prometheus = Prometheus(programs, folder / "prometheus", size.scrape_s)
        self.prometheus = stack.enter_context(closing(prometheus))
        follower.tell(self.emulator.set_pods)
        follower.tell(partial(self.prometheus.follow, "bench", self.emulator.address))
        self.prometheus.start()
        self.proxy = stack.enter_context(closing(Proxy(plane.url, plane.ca_file)))
        self.proxy.start()
        settings: dict[str, dict[str, Any]] = {
            "cycle": {"period_s": 0.0, "deadline_s": 60.0},
            "prometheus": {"timeout_s": 20.0},
            "collector": {
                "window_s": 5 * size.scrape_s,
                "stale_after_s": 2.4 * size.scrape_s,
                "metrics_timeout_s": 40.0,
            },
            "stability": {"down_window_s": 5 * size.scrape_s},
            "capacity": {"source": "nodes", "accelerator_types": {"A100": "A100"}},
            "cluster": {"request_timeout_s": 20.0},
            "actuator": {"write_timeout_s": 5.0},
            "lease": {"duration_s": 30, "renew_every_s": 5.0},
        }
        kubeconfig = plane.kubeconfig(ADMIN, self.proxy.url)
        daemon = Daemon(folder / "daemon", kubeconfig, "bench", self.prometheus.url, settings)
        self.daemon = stack.enter_context(closing(daemon))

    def _create(self) -> None:
        size, started = self.size, time.monotonic()
        cards = -(-2 * size.servers * size.replicas // size.nodes)
        self.fleet.add_nodes(GpuNode(gpus=cards), count=size.nodes)
        say(f"{size.nodes} nodes after {time.monotonic() - started:.0f} s")
        servers = [ManagedServer(name, replicas=size.replicas) for name in self.names]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.fleet.add_servers, servers))
        pods = size.servers * size.replicas
        self.fleet.await_pods_ready(pods, 20 * MINUTES_S)
        say(f"{pods} pods ready after {time.monotonic() - started:.0f} s")

    def load(self, names: list[str], rps_of_a_replica: float) -> None:
        """Set the load of these servers, and wait until metrics tell of it."""
        load = Load(rps_of_a_replica * self.size.replicas)
        self.emulator.set_loads(dict.fromkeys(names, load))
        pods = self.size.servers * self.size.replicas
        since = time.time()
        scrape_s = self.size.scrape_s
        window = f"{int(4.4 * scrape_s)}s"
        seen = f"count(count_over_time(vllm:num_requests_running[{window}]) >= 4)"
        until(
            lambda: (
                time.time() - since > 4.4 * scrape_s and (self.prometheus.value(seen) or 0) >= pods
            ),
            "a whole window of samples",
            10 * MINUTES_S,
            1.0,
        )

    def cycle(self, what: str, target_s: float) -> Measured:
        """One cycle now."""
        with self._requests() as asked:
            pid = self.daemon.program.pid
            before, started = used(pid), time.monotonic()
            answer = requests.get(f"{self.daemon.url}/invoke", timeout=3 * MINUTES_S)
            wall_s = time.monotonic() - started
            cpu = used(pid) - before
        report = answer.json()
        if not report["succeeded"]:
            raise RuntimeError(f"the cycle failed: {report['failure']}")
        applied = [one for one in report["patches"] if one["status"] == "applied"]
        say(f"{what}: {wall_s:.1f} s, of the daemon's own {cpu.daemon:.2f} s of CPU")
        return Measured(
            what,
            wall_s,
            report["stageSeconds"]["observe"],
            cpu,
            self._memory_mb(),
            len(asked),
            len(applied),
            target_s,
        )

    # Linux only, as the testbed's own programs are looked after.
    def _memory_mb(self) -> float:
        status = Path(f"/proc/{self.daemon.program.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / 1e6

    @contextmanager
    def _requests(self) -> Iterator[list[Request]]:
        found: list[Request] = []
        self.proxy.forget()
        yield found
        found += [
            one
            for one in self.proxy.requests()
            if "watch=true" not in one.query and "/leases/" not in one.path
        ]


def say(line: str) -> None:
    """How far it is."""
    STDERR.print(line, highlight=False)


def measure(size: Size, folder: Path) -> list[Measured]:
    """Build the fleet, run the cycles."""
    with ExitStack() as stack:
        bench = Bench(stack, size, folder)
        bench.load(bench.names, CALM_RPS)
        bench.daemon.start()
        until(lambda: bench.daemon.metric("controlloop_leader") == 1, "the lease", MINUTES_S, 0.2)
        first = bench.cycle("first, all lists read", CHANGES_TARGET_S)
        steady = [bench.cycle("steady", STEADY_TARGET_S) for _ in range(STEADY_CYCLES + 1)][1:]
        bench.load(bench.names[: size.changes], BUSY_RPS)
        changed = bench.cycle(f"{size.changes} changes", CHANGES_TARGET_S)
        return [first, sorted(steady, key=lambda one: one.wall_s)[len(steady) // 2], changed]


def table_of(measured: list[Measured], size: Size) -> Table:
    """One row a kind of cycle."""
    title = f"{size.servers} Deployments, {size.servers * size.replicas} pods, {size.nodes} nodes"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in (
        "Cycle",
        "Wall s",
        "Observing s",
        "CPU s",
        "Memory MB",
        "Requests",
        "Patches",
        "Target s",
    ):
        table.add_column(column, justify="left" if column == "Cycle" else "right")
    for one in measured:
        table.add_row(
            one.cycle,
            f"{one.wall_s:.2f}",
            f"{one.observing_s:.2f}",
            f"{one.cpu.daemon:.2f}",
            f"{one.peak_mb:.0f}",
            f"{one.requests:g}",
            str(one.patches),
            f"{one.target_s:g}",
        )
    return table


def processors_of(measured: list[Measured]) -> Table:
    """Who used the processors during each cycle: all but the daemon is the bed it lies in."""
    title = "CPU seconds by the clock of each cycle"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    columns = ("Daemon", "Prometheus", "Emulator", "Control plane", "Other programs")
    for column in ("Cycle", *columns, "Processors busy"):
        table.add_column(column, justify="left" if column == "Cycle" else "right")
    for one in measured:
        seconds = astuple(one.cpu)
        busy = sum(seconds) / one.wall_s / (os.cpu_count() or 1)
        table.add_row(one.cycle, *(f"{each:.2f}" for each in seconds), f"{busy:.0%}")
    return table


def main() -> int:
    """Measure; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1000, help="managed Deployments")
    parser.add_argument("--replicas", type=int, default=5, help="pods of each")
    parser.add_argument("--nodes", type=int, default=400, help="nodes")
    parser.add_argument("--changes", type=int, default=200, help="servers that scale at once")
    parser.add_argument("--scrape", type=float, default=30.0, help="seconds between scrapes")
    parser.add_argument("--output", type=Path, help="also write JSON here")
    chosen = parser.parse_args()
    size = Size(chosen.servers, chosen.replicas, chosen.nodes, chosen.changes, chosen.scrape)
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        measured = measure(size, Path(folder))
    console = Console(width=max(Console().width, 100))
    console.print(table_of(measured, size))
    console.print(processors_of(measured))
    _, steady, changed = measured
    missed = [one.cycle for one in measured if one.missed]
    if steady.requests > MOST_REQUESTS:
        missed.append(f"requests of a steady cycle: {steady.requests:g}, may be {MOST_REQUESTS}")
    if changed.patches != size.changes:
        missed.append(f"changes: {changed.patches} of {size.changes} were made")
    console.print(f"missed: {', '.join(missed)}" if missed else "every target is met")
    if chosen.output:
        document = {"size": asdict(size), "cycles": [asdict(one) for one in measured]}
        chosen.output.write_text(json.dumps(document | {"missed": missed}, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
