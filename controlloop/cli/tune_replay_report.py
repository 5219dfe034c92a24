"""What `tune replay` found, as tables, as JSON and as a trajectory."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from controlloop.api.estimate_document import estimate_document
from controlloop.api.estimates import PairEstimate
from controlloop.cli.tables import plain_table, print_tables
from controlloop.tuner.pairs import PairName
from controlloop.tuner.replay import ACCEPTED, COLLECTED, Replay, Step
from controlloop.units import rpm_from_rps


def print_replay(replay: Replay) -> None:
    """Print what was learned of each pair, and how well it was predicted."""
    numbers = ("Observed", "Learned", "TTFT off", "p90", "ITL off", "p90 ")
    summary = plain_table("Pair", *numbers, "Turned away", "Trust", right=numbers)
    parameters = plain_table(
        "Pair", "Parameter", "Value", "Std. error", right=("Value", "Std. error")
    )
    for pair in replay.pairs:
        steps, score = replay.of(pair), replay.score(pair)
        name = _name(pair)
        last = steps[-1].after
        summary.add_row(
            name,
            str(len(steps)),
            str(0 if last is None else last.accepted),
            *(_percent(value) for value in (*score.ttft, *score.itl)),
            ", ".join(f"{count} {why}" for why, count in _turned_away(steps).items()) or "-",
            "not learned" if last is None else _trust(last),
        )
        if last is not None:
            for place, parameter in enumerate(last.parameter_names):
                value, error = last.parameters[place], last.standard_errors[place]
                parameters.add_row(
                    name if place == 0 else "", parameter, f"{value:.4g}", f"{error:.1%}"
                )
    notes = ["Off: relative errors, median and 90th percentile, of predictions one step ahead,"]
    notes += ["over the second half of the observations, outliers included.", *replay.notes]
    print_tables(summary, parameters, *notes)


def replay_document(replay: Replay) -> dict[str, Any]:
    """All of it in JSON's values: rates in requests/minute, times in ms."""
    return {
        "pairs": [_pair_document(replay, pair) for pair in replay.pairs],
        "notes": list(replay.notes),
        "trajectory": [step_document(step) for step in replay.steps],
    }


def step_document(step: Step) -> dict[str, Any]:
    """One observation and what was known after it."""
    compared, after = step.compared, step.after
    found: dict[str, Any] = {
        "time": step.time,
        "model": step.pair[0],
        "accelerator": step.pair[1],
        "source": step.source,
        "arrivalRate": None if math.isnan(step.rate_rps) else rpm_from_rps(step.rate_rps),
        "outcome": step.outcome,
        "predictedTtft": compared.predicted_ttft_ms if compared else None,
        "observedTtft": compared.observed_ttft_ms if compared else None,
        "predictedItl": compared.predicted_itl_ms if compared else None,
        "observedItl": compared.observed_itl_ms if compared else None,
        "nis": compared.nis if compared else None,
    }
    if after is not None:
        names = after.parameter_names
        found["trust"] = str(after.trust)
        found["parameters"] = dict(zip(names, after.parameters, strict=True))
        found["standardErrors"] = dict(zip(names, after.standard_errors, strict=True))
    return found


def write_trajectory(replay: Replay, path: Path) -> None:
    """Write every step to `path`, as JSON or CSV by its suffix.

    Raises:
        OSError: it cannot be written.

    """
    rows = [step_document(step) for step in replay.steps]
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(flat)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in row.items() if not isinstance(value, dict)}
    found |= row.get("parameters", {})
    return found | {f"{name}_error": one for name, one in row.get("standardErrors", {}).items()}


def _pair_document(replay: Replay, pair: PairName) -> dict[str, Any]:
    steps, score = replay.of(pair), replay.score(pair)
    last = steps[-1].after
    return {
        "model": pair[0],
        "accelerator": pair[1],
        "observations": len(steps),
        "turnedAway": _turned_away(steps),
        "secondHalf": {
            "compared": score.count,
            "ttftErrorMedian": _or_none(score.ttft[0]),
            "ttftErrorP90": _or_none(score.ttft[1]),
            "itlErrorMedian": _or_none(score.itl[0]),
            "itlErrorP90": _or_none(score.itl[1]),
        },
        "estimate": None if last is None else estimate_document(last),
    }


def _turned_away(steps: tuple[Step, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for step in steps:
        if step.outcome not in (ACCEPTED, COLLECTED):
            found[step.outcome] = found.get(step.outcome, 0) + 1
    return found


def _name(pair: PairName) -> str:
    return f"{pair[0]} on {pair[1]}"


def _trust(estimate: PairEstimate) -> str:
    return f"{estimate.trust}: {estimate.reason}" if estimate.reason else str(estimate.trust)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
