"""What the demo says at its end: tables for people, one document for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from controlloop.cli.demo_words import clock_time, dollars
from controlloop.cli.tables import STYLES, plain_table
from controlloop.simulator.demo import DemoResult
from controlloop.simulator.fleet_run import Run
from controlloop.simulator.scoring import LEVELS, Attainment
from controlloop.simulator.simulation import Change
from controlloop.units import SECONDS_PER_HOUR

PARTS = 6
MOST_HELD = 2


def report_tables(result: DemoResult) -> Iterator[RenderableType]:
    """The result from the whole to the parts."""
    yield _summary(result)
    yield _classes(result)
    yield _servers(result)
    yield _cards(result)
    yield _decisions(result)
    yield Text(_held_back(result))


def report_document(result: DemoResult) -> dict[str, Any]:
    """The result as a JSON document; costs in cents, times in seconds, shares from 0 to 1."""
    options = result.options
    return {
        "hours": options.hours,
        "pace": options.pace,
        "periodSeconds": options.period_s,
        "seed": options.seed,
        "trueTimes": result.true_times,
        "cycles": options.cycles,
        "failedCycles": len(result.failures),
        "saving": result.saving,
        "controlled": run_document(result.controlled),
        "fixedAtPeak": run_document(result.fixed),
        "changes": len(result.changes),
        "holds": {str(reason): count for reason, count in sorted(result.holds.items())},
        "servers": [
            {
                "name": server.name,
                "class": server.service_class,
                "model": server.model,
                "accelerator": server.accelerator,
                "maxBatch": server.max_batch,
                "fixedReplicas": server.replicas,
            }
            for server in result.controlled.history.servers
        ],
        "decisions": [
            {
                "time": change.time,
                "server": change.decision.server,
                "action": str(change.decision.action),
                "replicasBefore": change.decision.current.replicas,
                "replicas": change.decision.desired.replicas,
                "reason": change.decision.reason,
            }
            for change in highlights(result)
        ],
    }


def highlights(result: DemoResult) -> tuple[Change, ...]:
    """A few decisions that show the loop at work, in order of time.

    The greatest change of each part of the day, of a server not shown before where there is
    one, the first that gave up replicas for another server, and the first that was held for each
    of the commonest reasons.
    """
    part_s = result.controlled.score.hours * SECONDS_PER_HOUR / PARTS
    chosen: list[Change] = []
    for part in range(PARTS):
        changes = [one for one in result.changes if part * part_s < one.time <= (part + 1) * part_s]
        shown = {one.decision.server for one in chosen}
        fresh = [one for one in changes if one.decision.server not in shown]
        if changes:
            chosen.append(max(fresh or changes, key=_size))
    given_up = [one for one in result.changes if one.decision.makes_room_for][:1]
    chosen += [one for one in given_up if one not in chosen]
    commonest = sorted(result.holds, key=lambda reason: (-result.holds[reason], reason))
    held = [result.held[reason] for reason in commonest[:MOST_HELD]]
    return tuple(sorted(chosen + held, key=lambda one: (one.time, one.decision.server)))


def _size(change: Change) -> float:
    before, after = change.decision.current, change.decision.desired
    return abs(after.replicas - before.replicas) + abs(after.cost_per_hour - before.cost_per_hour)


def _summary(result: DemoResult) -> Table:
    ours, fixed = result.controlled.score, result.fixed.score
    servers = len(result.controlled.history.servers)
    cards = sum(use.capacity for use in ours.cards)
    kinds = len(ours.cards)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    less = f"{abs(result.saving):.1%} {'less' if result.saving >= 0 else 'more'}"
    table.add_row(
        "Fleet",
        f"{servers} servers, {len(ours.classes)} classes, {cards} cards of {kinds} types; "
        f"seed {result.options.seed}",
    )
    table.add_row(
        "Time",
        f"{_pace(result)}, {result.options.cycles} cycles of {result.options.period_s:g} s",
    )
    table.add_row(
        "Engines",
        _engines(result.true_times),
    )
    table.add_row(
        "Cost",
        Text.assemble(
            (dollars(ours.cost), "bold green"),
            f", against {dollars(fixed.cost)} of the fleet fixed at its peak: ",
            (less, "bold green"),
        ),
    )
    table.add_row(
        "Objectives",
        Text.assemble(
            (f"{ours.overall.within_both:.2%}", "bold green"),
            f" of {ours.overall.requests:,.0f} requests within both "
            f"(fixed: {fixed.overall.within_both:.2%})",
        ),
    )
    hourly = len(result.changes) / max(ours.hours * servers, 1e-9)
    table.add_row("Changes", f"{len(result.changes)}, {hourly:.1f} an hour and server")
    if result.failures:
        time, failure = result.failures[0]
        moment = clock_time(time * result.options.pace)
        table.add_row(
            "Failed",
            Text.assemble(
                (f"{len(result.failures)} cycles", "bold red"),
                f", the first at {moment} in its {failure.stage} stage: {failure.message}",
            ),
        )
    return table


def _classes(result: DemoResult) -> Table:
    table = plain_table(
        "Class",
        "Requests",
        "TTFT within",
        "ITL within",
        "Both",
        "Both, fixed",
        right=("Requests", "TTFT within", "ITL within", "Both", "Both, fixed"),
    )
    fixed = {one.group: one for one in result.fixed.score.classes}
    for one in result.controlled.score.classes:
        table.add_row(
            one.group,
            f"{one.requests:,.0f}",
            f"{one.within_ttft:.2%}",
            f"{one.within_itl:.2%}",
            f"{one.within_both:.2%}",
            f"{fixed[one.group].within_both:.2%}",
        )
    return table


def _servers(result: DemoResult) -> Table:
    table = plain_table(
        "Server",
        "Class",
        "Model",
        "On",
        "Replicas",
        "Mean",
        "Fixed",
        "Within both",
        right=("Replicas", "Mean", "Fixed", "Within both"),
    )
    servers = result.controlled.history.servers
    for server, one in zip(servers, result.controlled.score.servers, strict=True):
        table.add_row(
            server.name,
            server.service_class,
            server.model,
            server.accelerator,
            f"{one.least_replicas} .. {one.most_replicas}",
            f"{one.mean_replicas:.1f}",
            str(server.replicas),
            f"{one.attainment.within_both:.2%}",
        )
    return table


def _cards(result: DemoResult) -> Table:
    table = plain_table(
        "Cards",
        "There",
        "Held, mean",
        "Held, most",
        "Fixed",
        right=("There", "Held, mean", "Held, most", "Fixed"),
    )
    ours, fixed = result.controlled.score.cards, result.fixed.score.cards
    for use, still in zip(ours, fixed, strict=True):
        table.add_row(
            use.card_type,
            str(use.capacity),
            f"{use.mean_held:.1f}",
            str(use.most_held),
            str(still.most_held),
        )
    return table


def _decisions(result: DemoResult) -> Table:
    table = plain_table("Time", "Server", "Action", "Some of its decisions, and why")
    for change in highlights(result):
        decision = change.decision
        table.add_row(
            clock_time(change.time * result.options.pace),
            decision.server,
            Text(str(decision.action), style=STYLES.get(decision.action, "")),
            decision.reason,
        )
    return table


def _held_back(result: DemoResult) -> str:
    """How often a server was held, by reason."""
    counts = sorted(result.holds.items(), key=lambda entry: (-entry[1], entry[0]))
    told = ", ".join(f"{reason} {count}" for reason, count in counts) or "never"
    return f"Servers kept from shrinking, in cycles by reason: {told}"


def run_document(run: Run) -> dict[str, Any]:
    """A run as JSON; latencies at the percentiles 50, 95 and 99, null where never answered."""
    score = run.score
    return {
        "cost": score.cost,
        "cardHours": score.card_hours,
        "attainment": _attainment_document(score.overall),
        "classes": [_attainment_document(one) for one in score.classes],
        "servers": [
            {
                **_attainment_document(one.attainment),
                "leastReplicas": one.least_replicas,
                "meanReplicas": one.mean_replicas,
                "mostReplicas": one.most_replicas,
                "ttftMs": _latencies(one.ttft_ms),
                "itlMs": _latencies(one.itl_ms),
            }
            for one in score.servers
        ],
        "cards": [
            {
                "type": use.card_type,
                "count": use.capacity,
                "meanHeld": use.mean_held,
                "mostHeld": use.most_held,
            }
            for use in score.cards
        ],
    }


def _latencies(values: tuple[float, ...]) -> dict[str, float | None]:
    shown = [value if math.isfinite(value) else None for value in values]
    return dict(zip((f"p{level * 100:g}" for level in LEVELS), shown, strict=True))


def _attainment_document(one: Attainment) -> dict[str, Any]:
    return {
        "name": one.group,
        "requests": one.requests,
        "withinTtft": one.within_ttft,
        "withinItl": one.within_itl,
        "withinBoth": one.within_both,
    }


def _pace(result: DemoResult) -> str:
    options, simulated = result.options, result.controlled.score.hours
    if options.pace == 1.0:
        return f"{simulated:g} h"
    return f"{options.hours:g} h of load at {options.pace:g} times their pace: {simulated:g} h"


def _engines(true_times: float) -> str:
    speed = (
        "as the data says"
        if true_times == 1.0
        else f"at {true_times:g} of the times that the data says"
    )
    return f"every iteration of each simulated, {speed}"
