"""CPU seconds of the programs of a bench, and of all else on the machine. Linux only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROMETHEUS = "prometheus"


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """Who used the processors, in seconds.

    Attributes:
        daemon: the program that is measured.
        prometheus: it answers the daemon's queries, and scrapes.
        emulator: this process: the emulated servers, the proxy, the bench itself.
        control_plane: the API server, its store and the controllers.
        others: programs of the machine that are no part of the bench.

    """

    daemon: float
    prometheus: float
    emulator: float
    control_plane: float
    others: float

    def __sub__(self, before: CpuSeconds) -> CpuSeconds:
        """What was used since."""
        return CpuSeconds(
            *(getattr(self, each.name) - getattr(before, each.name) for each in fields(self))
        )


def used(daemon_pid: int) -> CpuSeconds:
    """What was used so far, since each program's and the machine's start."""
    own = os.getpid()
    children = {pid: cpu_s for pid, (parent, cpu_s) in _processes().items() if parent == own}
    daemon = children.pop(daemon_pid)
    prometheus = sum(cpu_s for pid, cpu_s in children.items() if _name(pid) == PROMETHEUS)
    times = os.times()
    emulator = times.user + times.system
    bench = daemon + emulator + sum(children.values())
    control_plane = sum(children.values()) - prometheus
    return CpuSeconds(daemon, prometheus, emulator, control_plane, _machine_s() - bench)


def _processes() -> Mapping[int, tuple[int, float]]:
    """Parent and CPU seconds of each process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu_s = (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S
        found[int(folder.name)] = int(after_name[1]), cpu_s
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _machine_s() -> float:
    """All that the processors did but idle and wait."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, softirq = (int(each) for each in first[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_S
