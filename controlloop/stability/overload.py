"""The path that only adds: what shows that a server cannot wait, and what that gives it."""

from __future__ import annotations

import math

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Signals, Workload
from controlloop.api.readings import Present, Reading
from controlloop.stability.options import Panic


def overload(workload: Workload, signals: Signals, need: float, panic: Panic) -> str:
    """What shows it, in words; "" where nothing does. What is not known shows nothing.

    Args:
        workload: the server as it is.
        signals: what its engines report.
        need: replicas that its load needs.
        panic: from when on.

    """
    if 0 < panic.ratio <= need / max(workload.replicas, 1):
        return f"its load needs {need:.1f} replicas, {workload.replicas} are asked for"
    ready = max(workload.ready_replicas, 1)
    waiting, running = _now(signals.waiting), _now(signals.running)
    if 0 < panic.waiting <= waiting / ready:
        return f"{waiting:.0f} requests wait at {workload.ready_replicas} ready replicas"
    room = workload.max_batch * ready
    if waiting > 0 and room > 0 and 0 < panic.utilization <= running / room:
        return f"requests wait and {running:.0f} of {room} places are taken"
    return ""


def kept_up(workload: Workload, why: str, most: int | None, panic: Panic) -> Hold:
    """What an overloaded server must run of which the model holds that enough run.

    More than now, once, and again when those that were added serve: while they start nothing
    shows that they are too few. Never less than now.
    """
    asked = workload.replicas
    if workload.ready_replicas >= workload.replicas and panic.step_share > 0:
        asked += max(math.ceil(panic.step_share * workload.replicas), 1)
    if most is not None:
        asked = max(min(asked, most), workload.replicas)
    detail = f"{why}, though the model holds that {workload.replicas} are enough"
    return Hold(HoldReason.OVERLOAD, Forbids.DECREASE, detail, asked)


def _now(reading: Reading) -> float:
    return reading.value if isinstance(reading, Present) else 0.0
