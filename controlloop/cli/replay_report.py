"""What a replay found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from controlloop.cli.tables import plain_table, print_tables
from controlloop.replay.document import Decided
from controlloop.replay.rerun import Difference, Replayed, ServerTally


def print_replay(
    found: Replayed, notes: Sequence[str], overrides: Mapping[str, object], limit: int
) -> None:
    """Tables of the differences and of what they come to, server by server.

    Args:
        found: the replay.
        notes: remarks on the recording.
        overrides: the settings that were changed.
        limit: differences shown at most.

    """
    if found.differences:
        shown = plain_table("Time (UTC)", "Server", "Recorded", "Replayed", "Holds, replayed")
        for each in found.differences[:limit]:
            shown.add_row(
                _time(each.now),
                each.server,
                _words(each.recorded),
                _words(each.replayed),
                ", ".join(each.replayed.holds) if each.replayed else "-",
            )
        print_tables(shown)
        more = len(found.differences) - limit
        if more > 0:
            typer.echo(f"... and {more} more; --format json has all\n")
    numbers = ("Cycles", "Differ", "Changes", "Mean replicas", "Mean cost/h")
    totals = plain_table("Server", *numbers, right=numbers)
    for name in sorted(found.servers):
        tally = found.servers[name]
        totals.add_row(
            name,
            str(tally.cycles),
            str(tally.differences),
            _pair(tally.changes, "d"),
            _pair(_means(tally.replica_cycles, tally), ".2f"),
            _pair(_means(tally.cost_cycles, tally), ".1f"),
        )
    print_tables(totals)
    for note in notes:
        typer.echo(f"note: {note}")
    for stage, count in sorted(found.skipped.items()):
        typer.echo(f"note: {count} cycles decided nothing: they failed in their {stage} stage")
    for now, stage, message in found.failures[:limit]:
        typer.echo(f"failed at {_time(now)} in the {stage} stage: {message}")
    typer.echo(_verdict(found, overrides))


def replay_document(
    found: Replayed, notes: Sequence[str], overrides: Mapping[str, object]
) -> dict[str, Any]:
    """The same in JSON's values."""
    return {
        "settings": dict(overrides),
        "cycles": found.cycles,
        "skipped": dict(found.skipped),
        "equal": found.is_equal,
        "notes": list(notes),
        "failures": [
            {"time": now, "stage": stage, "message": message}
            for now, stage, message in found.failures
        ],
        "servers": {
            name: {
                "cycles": tally.cycles,
                "differences": tally.differences,
                "changes": _named(tally.changes),
                "meanReplicas": _named(_means(tally.replica_cycles, tally)),
                "meanCostPerHour": _named(_means(tally.cost_cycles, tally)),
            }
            for name, tally in sorted(found.servers.items())
        },
        "differences": [_difference(each) for each in found.differences],
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "time": each.now,
        "server": each.server,
        "recorded": _decided(each.recorded),
        "replayed": _decided(each.replayed),
    }


def _decided(each: Decided | None) -> dict[str, Any] | None:
    if each is None:
        return None
    return {
        "action": each.action,
        "before": each.before,
        "replicas": each.replicas,
        "accelerator": each.accelerator,
        "maxBatch": each.max_batch,
        "holds": list(each.holds),
    }


def _verdict(found: Replayed, overrides: Mapping[str, object]) -> str:
    decisions = sum(tally.cycles for tally in found.servers.values())
    differ = len(found.differences)
    changed = ", ".join(f"{name}={value}" for name, value in overrides.items()) or "as recorded"
    return f"{found.cycles} cycles, {decisions} decisions, {differ} differ ({changed})"


def _words(each: Decided | None) -> str:
    if each is None:
        return "no decision"
    if each.before == each.replicas:
        return f"{each.action} {each.replicas}"
    return f"{each.action} {each.before} -> {each.replicas}"


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _means(sums: Sequence[float], tally: ServerTally) -> list[float]:
    return [each / max(tally.cycles, 1) for each in sums]


def _pair(pair: Sequence[float], form: str) -> str:
    before, after = (format(each, form) for each in pair)
    return before if before == after else f"{before} -> {after}"


def _named(pair: Sequence[float]) -> dict[str, float]:
    return {"recorded": pair[0], "replayed": pair[1]}
