"""Runs the backtests of docs/backtest.md and writes their tables into it.

    python scripts/make_backtests.py --trace azure-llm-2023-code.csv --results runs.jsonl

What is in the results file is not run again; without --trace the trace is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from controlloop.backtest.case import Case
from controlloop.backtest.executors import Processes
from controlloop.backtest.jobs import perform
from controlloop.backtest.plan import Question, Verdict, answer
from controlloop.backtest.policies import named_policies
from controlloop.backtest.results import Results
from controlloop.backtest.summary import (
    Contest,
    contests,
    cost_at_goal,
    cost_beside,
    load_name,
    shown,
    summary,
)

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "backtest.md"
BEGIN, END = "<!-- results: made by scripts/make_backtests.py -->", "<!-- end of results -->"
HOURS: Final = {"diurnal": 2.0, "burst": 1.0, "step": 1.0}
STARTUPS_S: Final = (0.0, 60.0, 120.0, 300.0)
SEEDS: Final = (1, 2, 3, 4, 5)
# Every knob is run at this one only: elsewhere costs are those of the chosen knobs.
FRONTIER_STARTUP_S: Final = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run what is missing; 0 when the page is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--startup", type=float, action="append", help="only this one, in s")
    parser.add_argument(
        "--leave-out", action="append", default=[], help="policy@start-up, such as loop-tuned@0"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--summary", type=Path, help="write every number here, as JSON")
    given = parser.parse_args(arguments)
    traces = () if given.trace is None else (Case("trace", str(given.trace), hours=1.0),)
    loads = (*traces, *(Case(name, hours=hours) for name, hours in HOURS.items()))
    whole = Question(loads, named_policies([]), tuple(given.startup or STARTUPS_S), SEEDS)

    def progress(done: int, total: int) -> None:
        if done % 20 == 0:
            sys.stderr.write(f"{done} of {total} runs\n")

    results, executor = Results(given.results), Processes(given.jobs)
    verdicts: list[Verdict] = []
    for startup_s in whole.startups_s:
        frontier_seeds = int(startup_s == FRONTIER_STARTUP_S)
        policies = tuple(
            each for each in whole.policies if f"{each.name}@{startup_s:g}" not in given.leave_out
        )
        one = replace(
            whole, policies=policies, startups_s=(startup_s,), frontier_seeds=frontier_seeds
        )
        verdicts += answer(one, perform, executor, results, progress)
    verdicts.sort(key=lambda each: loads.index(each.cell.load))
    if given.summary is not None:
        given.summary.write_text(json.dumps(summary(whole, verdicts), indent=1) + "\n")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    body = "\n".join(_sections(whole, verdicts))
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}", encoding="utf-8")
    return 0


def _sections(question: Question, verdicts: Sequence[Verdict]) -> Iterator[str]:
    at = f"$ at {100 * question.goal:g} %"
    shares = ("both %", "worst seed", "TTFT %", "ITL %")
    rest = ("GPU h", "changes/h", "most", "overload %", "queue")
    heads = ("start-up", "policy", "knob", *shares, "$", at, "x loop", *rest)
    load = ""
    for contest in contests(verdicts):
        if load_name(contest.load) != load:
            if load:
                yield ""
            load = load_name(contest.load)
            yield f"### {load}\n"
            yield f"| {' | '.join(heads)} |"
            yield "| ---: | --- |" + " ---: |" * (len(heads) - 2)
        for verdict in contest.verdicts:
            yield f"| {' | '.join(_cells(contest, verdict, question.goal))} |"
    yield ""


def _cells(contest: Contest, verdict: Verdict, goal: float) -> tuple[str, ...]:
    name = verdict.cell.policy.name
    return (
        f"{contest.startup_s:g} s",
        f"**{name}**" if name == "loop" else name,
        f"{verdict.knob:g}",
        f"{100 * verdict.mean('withinBoth'):.2f}",
        f"{100 * min(verdict.values('withinBoth')):.2f}",
        f"{100 * verdict.mean('withinTtft'):.2f}",
        f"{100 * verdict.mean('withinItl'):.2f}",
        f"{verdict.mean('cost'):.2f}",
        shown(cost_at_goal(verdict, goal)),
        shown(cost_beside(verdict, contest.loop)),
        f"{verdict.mean('gpuHours'):.1f}",
        f"{verdict.mean('changesPerHour'):.1f}",
        f"{max(verdict.values('mostChangesInAnHour')):.0f}",
        f"{100 * verdict.mean('overload'):.1f}",
        f"{max(verdict.values('worstQueue')):.0f}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
