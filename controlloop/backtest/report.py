"""The report: one HTML file with its pictures inside, that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from controlloop.backtest.pictures import contest_pictures
from controlloop.backtest.plan import Question, Verdict
from controlloop.backtest.policies import LOOP
from controlloop.backtest.summary import (
    Contest,
    contests,
    cost_at_goal,
    cost_beside,
    load_name,
    shown,
)
from controlloop.errors import ControlLoopError

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1240px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #e4e8ec;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: #6b7785; font-weight: 600; } td:first-child, th:first-child { text-align: left; }
tr.loop td { background: #dceaf5; } td.missed { color: #b3541e; }
li { color: #6b7785; font-size: 13px; } details { margin-top: .8rem; } figure { margin: 1.2rem 0; }
svg { max-width: 100%; height: auto; } .scroll { overflow-x: auto; }
"""


def write_report(path: Path, question: Question, verdicts: Sequence[Verdict]) -> None:
    """Write the report of an answer. Equal answers give equal bytes.

    Raises:
        ControlLoopError: the file cannot be written.

    """
    text = report_html(question, verdicts)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ControlLoopError(f"{path}: the report cannot be written: {error}") from error


def report_html(question: Question, verdicts: Sequence[Verdict]) -> str:
    """The whole page."""
    every = contests(verdicts)
    sections = [_contest(one, question) for one in every]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Backtest</title><style>{_STYLE}</style></head><body>",
            "<h1>Backtest: policies side by side on equal traffic</h1>",
            _how(question, every),
            *sections,
            _policies(verdicts),
            "</body></html>",
            "",
        ]
    )


def _how(question: Question, every: Sequence[Contest]) -> str:
    loads = ", ".join(dict.fromkeys(load_name(one.load) for one in every))
    hours = ", ".join(dict.fromkeys(f"{one.load.hours:g}" for one in every))
    plant = ", ".join(dict.fromkeys(str(one.load.plant) for one in every))
    seeds = ", ".join(str(one) for one in question.seeds)
    some = ", ".join(str(one) for one in question.seeds[: question.frontier_seeds])
    frontiers = f"frontiers on seeds {some}" if some else "no frontiers, the chosen knobs alone"
    goal = f"{100 * question.goal:g} %"
    text = f"""
At most {hours} h of {loads} count, after a warm-up that is left out. Arrivals are open-loop:
they come whether or not there is room.

Plant: {plant}. Seeds {seeds}; {frontiers}. Numbers are means over seeds, most and queue the
greatest.

Changes/h: changes of replicas of a server an hour; most: those of one server in any hour.
Overload: the share of time in which more arrives than can be served. Queue: requests without a
place in a batch.

Each tuned knob is chosen on training load (another course of chance of seed {question.seeds[0]};
the first half of a trace): the cheapest that brings {goal} of requests within both objectives,
else the one that comes nearest. It is judged on load that it was not chosen on.

Thresholds of the baselines are multiples of what a replica truly holds or serves at its
objectives, server by server: a start that few fleets have.

Costs at equal attainment come from turning each knob over its range, in straight lines between
the points of the frontier: the cost at {goal}, in $, and ("x loop") the cost where a policy attains
what loop does, in multiples of the cost of loop; < marks a bound, where no cheaper knob was tried.
"""
    lines = [" ".join(one.split()) for one in text.strip().split("\n\n")]
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _contest(contest: Contest, question: Question) -> str:
    pictures = "".join(f"<figure>{svg}</figure>" for svg in contest_pictures(contest, question))
    return "\n".join(
        [
            f"<h2>{escape(contest.title)}</h2>",
            _table(contest, question.goal),
            _class_table(contest),
            pictures,
        ]
    )


def _table(contest: Contest, goal: float) -> str:
    heads = (
        "policy",
        "knob",
        "within both",
        "TTFT",
        "ITL",
        "cost",
        f"cost at {100 * goal:g} %",
        "x loop",
        "GPU h",
        "changes/h",
        "most",
        "overload",
        "queue",
    )
    rows = [_row(one, contest, goal) for one in contest.verdicts]
    return _html_table(heads, rows)


def _row(verdict: Verdict, contest: Contest, goal: float) -> str:
    attained = verdict.mean("withinBoth")
    name = verdict.cell.policy.name
    cells = [
        escape(name),
        f"{verdict.knob:g}",
        _percent(attained),
        _percent(verdict.mean("withinTtft")),
        _percent(verdict.mean("withinItl")),
        f"${verdict.mean('cost'):.2f}",
        escape(shown(cost_at_goal(verdict, goal), "not reached")),
        escape(shown(cost_beside(verdict, contest.loop))),
        f"{verdict.mean('gpuHours'):.1f}",
        f"{verdict.mean('changesPerHour'):.1f}",
        f"{max(verdict.values('mostChangesInAnHour')):.0f}",
        _percent(verdict.mean("overload"), digits=1),
        f"{max(verdict.values('worstQueue')):.0f}",
    ]
    marks = [' class="missed"' if at == 2 and attained < goal else "" for at in range(len(cells))]
    columns = "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(cells, marks, strict=True))
    start = '<tr class="loop">' if name == LOOP else "<tr>"
    return f"{start}{columns}</tr>"


def _class_table(contest: Contest) -> str:
    levels = ("p50", "p95", "p99")
    latencies = (f"{what} {level}" for what in ("TTFT", "ITL") for level in levels)
    heads = ("policy, class", "requests", "within both", "TTFT", "ITL", *latencies)
    rows = []
    for verdict in contest.verdicts:
        for group in verdict.rows[0]["classes"]:
            cells = [
                escape(f"{verdict.cell.policy.name}, {group['name']}"),
                f"{group['requests']:.0f}",
                *(_percent(group[each]) for each in ("withinBoth", "withinTtft", "withinItl")),
                *(_ms(group["ttftMs"][level]) for level in levels),
                *(_ms(group["itlMs"][level]) for level in levels),
            ]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        "<details><summary>By class, first seed: shares and percentiles</summary>"
        f"{_html_table(heads, rows)}</details>"
    )


def _policies(verdicts: Sequence[Verdict]) -> str:
    seen = {one.cell.policy.name: one.cell.policy for one in verdicts}
    items = [
        f"<li><b>{escape(one.name)}</b>: {escape(one.meaning)}. Knob: {escape(one.knob)}"
        f"{'' if one.is_tuned else ' (its default; not tuned)'}.</li>"
        for one in seen.values()
    ]
    return f"<h2>Policies</h2><ul>{''.join(items)}</ul>"


def _html_table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} ms"
