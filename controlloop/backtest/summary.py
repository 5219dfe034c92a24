"""From verdicts to what people and programs read: one entry a load, start-up time and policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controlloop.backtest.case import Case
from controlloop.backtest.plan import Question, Verdict
from controlloop.backtest.policies import LOOP
from controlloop.backtest.tuning import Cost, Point, cost_at

NUMBERS: Final = (
    "withinBoth",
    "withinTtft",
    "withinItl",
    "cost",
    "gpuHours",
    "changesPerHour",
    "mostChangesInAnHour",
    "overload",
    "worstQueue",
    "failedCycles",
)


@dataclass(frozen=True, slots=True)
class Contest:
    """The policies on one load at one start-up time."""

    load: Case
    startup_s: float | None
    verdicts: tuple[Verdict, ...]

    @property
    def title(self) -> str:
        """What it is, in words."""
        startup = (
            "own start-up times" if self.startup_s is None else f"start-up {self.startup_s:g} s"
        )
        return f"{load_name(self.load)}, {startup}"

    @property
    def loop(self) -> Verdict | None:
        """This loop with its default settings, where it takes part."""
        return next((one for one in self.verdicts if one.cell.policy.name == LOOP), None)


def load_name(load: Case) -> str:
    """The workload, or the name of the trace's file."""
    return load.trace_name or load.workload


def contests(verdicts: Sequence[Verdict]) -> tuple[Contest, ...]:
    """Verdicts by load and start-up time, in their order."""
    groups: dict[tuple[Case, float | None], list[Verdict]] = {}
    for one in verdicts:
        groups.setdefault((one.cell.load, one.cell.startup_s), []).append(one)
    return tuple(Contest(load, startup, tuple(each)) for (load, startup), each in groups.items())


def failing(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """A line for each policy whose cycles failed: its numbers say less than they seem."""
    return tuple(
        f"{contest.title}: {failed:.0f} cycles of {one.cell.policy.name} failed"
        for contest in contests(verdicts)
        for one in contest.verdicts
        if (failed := sum(one.values("failedCycles"))) > 0
    )


def cost_at_goal(verdict: Verdict, goal: float) -> Cost | None:
    """Cost in dollars at which the frontier reaches `goal`; None where it does not."""
    return cost_at(verdict.frontier, goal)


def cost_beside(verdict: Verdict, loop: Verdict | None) -> Cost | None:
    """Cost of `verdict`'s frontier at the loop's own attainment, in multiples of the loop's cost.

    On the seeds that frontiers were run on. None without a loop, or where it does not get there.
    """
    if loop is None:
        return None
    own = next(one for one in loop.frontier if one.knob == loop.knob)
    cost = cost_at(verdict.frontier, own.attainment)
    if cost is None or own.cost <= 0:
        return None
    return Cost(cost.value / own.cost, cost.is_bound)


def shown(cost: Cost | None, missing: str = "-") -> str:
    """A cost in two digits, marked where it is a bound."""
    if cost is None:
        return missing
    return f"{'<' if cost.is_bound else ''}{cost.value:.2f}"


def summary(question: Question, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The whole answer as JSON."""
    return {
        "goal": question.goal,
        "seeds": list(question.seeds),
        "frontierSeeds": list(question.seeds[: question.frontier_seeds]),
        "contests": [_contest(one, question.goal) for one in contests(verdicts)],
    }


def _contest(contest: Contest, goal: float) -> dict[str, Any]:
    load = contest.load
    return {
        "workload": load_name(load),
        "trace": bool(load.trace),
        "plant": load.plant,
        "hours": load.hours,
        "startupSeconds": contest.startup_s,
        "policies": [_policy(one, contest.loop, goal) for one in contest.verdicts],
    }


def _policy(verdict: Verdict, loop: Verdict | None, goal: float) -> dict[str, Any]:
    policy = verdict.cell.policy
    return {
        "name": policy.name,
        "meaning": policy.meaning,
        "knob": {"what": policy.knob, "value": verdict.knob, "tuned": policy.is_tuned},
        "mean": {name: verdict.mean(name) for name in NUMBERS},
        "least": {name: min(verdict.values(name)) for name in NUMBERS},
        "most": {name: max(verdict.values(name)) for name in NUMBERS},
        "classes": _classes(verdict),
        "costAtGoal": _cost(cost_at_goal(verdict, goal)),
        "costAtLoopsAttainment": _cost(cost_beside(verdict, loop)),
        "frontier": [_point(one) for one in verdict.frontier],
        "training": [_point(one) for one in verdict.trained],
    }


def _cost(cost: Cost | None) -> dict[str, float | bool] | None:
    return None if cost is None else {"value": cost.value, "isBound": cost.is_bound}


def _classes(verdict: Verdict) -> list[Mapping[str, Any]]:
    """Of the first seed: shares and percentiles by class."""
    return list(verdict.rows[0]["classes"])


def _point(point: Point) -> dict[str, float]:
    return {"knob": point.knob, "withinBoth": point.attainment, "cost": point.cost}
