"""Measures a piece of work in a process of its own: CPU time, memory, and time by a yardstick."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Measured:
    """What one piece of work took.

    Attributes:
        seconds: least wall time of the repetitions.
        cpu_s: least CPU time of the repetitions, s.
        yardsticks: `cpu_s` in multiples of a fixed piece of NumPy and Python work, measured
            beside it: what remains when the machine is slow or shared.
        peak_mb: greatest resident memory of the process, MB.
        remark: what the work says of itself.

    """

    seconds: float
    cpu_s: float
    yardsticks: float
    peak_mb: float
    remark: str = ""

    @property
    def undisturbed_s(self) -> float:
        """What it takes where nobody else works: all of it is one thread."""
        return min(self.seconds, self.cpu_s)


def yardstick() -> float:
    """CPU time of the fixed work, s: the least of five."""

    def work() -> None:
        values = np.linspace(0.1, 5.0, 200_000)
        for _ in range(5):
            np.logaddexp.accumulate(np.log(values))
        table: dict[int, int] = {}
        for number in range(100_000):
            table[number % 977] = number

    return min(_cpu_time(work) for _ in range(5))


def repeat(work: Callable[[], str], times: int) -> Measured:
    """Do `work` `times` times in this process and keep the least times; it returns a remark."""
    unit_s = yardstick()
    remark, walls, cpus = "", [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        remark = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(min(walls), min(cpus), min(cpus) / unit_s, peak_mb, remark)


def in_own_process(case: str, timeout_s: float = 1200.0) -> Measured:
    """Measure one case of `cases.py` in a fresh interpreter, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "cases.py"), case],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        raise RuntimeError(f"case {case} failed:\n{done.stderr}")
    return Measured(**json.loads(done.stdout))


def growth_exponent(sizes: list[int], costs: list[float]) -> float:
    """The slope of log(cost) over log(size) by least squares: 1 is linear."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def _cpu_time(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before
