"""The result of a backtest as tables: one a load and start-up time."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from controlloop.backtest.plan import Question, Verdict
from controlloop.backtest.summary import Contest, contests, cost_at_goal, cost_beside, shown
from controlloop.cli.tables import plain_table

WIDEST_NAME: Final = 17


def contest_tables(question: Question, verdicts: Sequence[Verdict]) -> list[RenderableType]:
    """Tables with titles, and what their columns mean."""
    parts: list[RenderableType] = []
    for contest in contests(verdicts):
        parts += [Text(contest.title, style="bold"), _table(contest, question.goal)]
    parts.append(_legend(question))
    return parts


def _table(contest: Contest, goal: float) -> RenderableType:
    at = f"$ at {100 * goal:g}%"
    numbers = ("knob", "both%", "TTFT%", "ITL%", "$", at, "x loop", "chg/h", "over%", "queue")
    table = plain_table("policy", *numbers, right=numbers)
    name, *others = table.columns
    for column in others:
        column.no_wrap = True
    # A variant's name is all of its settings: it is broken, so that the numbers have room.
    name.max_width = WIDEST_NAME
    for verdict in contest.verdicts:
        table.add_row(
            _broken(verdict.cell.policy.name),
            f"{verdict.knob:g}",
            f"{100 * verdict.mean('withinBoth'):.2f}",
            f"{100 * verdict.mean('withinTtft'):.2f}",
            f"{100 * verdict.mean('withinItl'):.2f}",
            f"{verdict.mean('cost'):.2f}",
            shown(cost_at_goal(verdict, goal)),
            shown(cost_beside(verdict, contest.loop)),
            f"{verdict.mean('changesPerHour'):.1f}",
            f"{100 * verdict.mean('overload'):.1f}",
            f"{max(verdict.values('worstQueue')):.0f}",
        )
    return table


def _broken(name: str) -> str:
    """A variant's name, a line for each section and each setting."""
    first, colon, settings = name.partition(":")
    return f"{first}:\n" + settings.replace(".", ".\n").replace(",", ",\n") if colon else name


def _legend(question: Question) -> str:
    seeds = ", ".join(str(one) for one in question.seeds)
    goal = f"{100 * question.goal:g} %"
    text = (
        f"Means over seeds {seeds}; queue is the greatest. Knobs are chosen for {goal} of requests "
        f"within both objectives on training load; that of `loop` is its default. $ at {goal}: "
        "what it costs where the knob is turned until it gets there. x loop: what it costs where "
        "it attains what `loop` does, in multiples of what `loop` costs. chg/h: changes of a "
        "server an hour. over: time in which more arrives than can be served. -: not reached. "
        "<: at most so much, no cheaper knob was tried."
    )
    return fill(text, 98)
