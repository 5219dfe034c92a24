"""Decisions in words: one sentence that says what happens and why."""

from __future__ import annotations

from controlloop.api.holds import Forbids, Hold
from controlloop.api.solution import Unserved
from controlloop.api.system import Allocation, Load, Server
from controlloop.units import rpm_from_rps


def explain_change(
    server: Server, found: Allocation, holds: tuple[Hold, ...], shortfall: Unserved | None
) -> str:
    """Why a server goes from what it has to `found`, and no further."""
    before, after = server.current, found
    change = f"{before.replicas} -> {after.replicas} of {after.accelerator or 'nothing'}"
    if after.accelerator != before.accelerator:
        change = (
            f"{before.replicas} of {before.accelerator or 'nothing'} -> "
            + change[len(f"{before.replicas} -> ") :]
        )
    if before.max_batch and after.max_batch and after.max_batch != before.max_batch:
        change += f", maximum batch {before.max_batch} -> {after.max_batch}"
    limits = tuple(hold for hold in holds if hold.limit == after.replicas)
    until = f"; no further: {_named(limits)}" if limits else ""
    return f"{change}: {_need(server, found)}{until}{_short(shortfall)}"


def explain_keep(
    server: Server, found: Allocation, forbidding: tuple[Hold, ...], shortfall: Unserved | None
) -> str:
    """Why a server stays at what it has although everything is known."""
    text = f"stays at {found.replicas} of {found.accelerator}: {_need(server, found)}"
    for way in (Forbids.DECREASE, Forbids.INCREASE):
        holds = tuple(hold for hold in forbidding if hold.forbids is way)
        if holds:
            text += f"; no {way}: {_named(holds)}"
    return text + _short(shortfall)


def explain_hold(current: Allocation, holds: tuple[Hold, ...]) -> str:
    """Why a server keeps what it has."""
    return f"keeps {current.replicas} of {current.accelerator or 'nothing'}: {_named(holds)}"


def _need(server: Server, found: Allocation) -> str:
    if found.load.is_empty:
        return "no load"
    latencies = f"ITL {found.itl_ms:.1f} ms, TTFT {found.ttft_ms:.0f} ms"
    text = f"sized for {_load(found.load)} at {latencies}"
    if server.backlog_rps > 0:
        text += f", with {rpm_from_rps(server.backlog_rps):.1f} req/min to drain what waits"
    return text


def _load(load: Load) -> str:
    rate_rpm = rpm_from_rps(load.rate_rps)
    return f"{rate_rpm:.1f} req/min of {load.input_tokens:.0f} in, {load.output_tokens:.0f} out"


def _short(shortfall: Unserved | None) -> str:
    return "" if shortfall is None else f"; short ({shortfall.reason}): {shortfall.detail}"


def _named(holds: tuple[Hold, ...]) -> str:
    return "; ".join(f"{hold.reason} ({hold.detail})" for hold in holds)
