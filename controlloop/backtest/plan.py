"""What a backtest runs: training first, then each policy at its chosen knob, and its frontier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from controlloop.backtest.case import Case
from controlloop.backtest.executors import Executor, Work
from controlloop.backtest.jobs import Job, Row, settings_digest_of
from controlloop.backtest.policies import Policy
from controlloop.backtest.results import Results
from controlloop.backtest.traces import known_trace
from controlloop.backtest.tuning import Point, chosen


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: every policy on every load, at every start-up time, with every seed.

    Attributes:
        loads: cases whose start-up time and seed are filled in.
        policies: side by side.
        startups_s: start-up times; None is each server's own.
        seeds: courses of chance that policies are judged on; thresholds are chosen on the
            training load of the first.
        goal: the share of requests within both objectives that a chosen knob must reach.
        frontier_seeds: on how many of the seeds the whole frontier is run; on none, it is the
            chosen knob's point alone.

    """

    loads: tuple[Case, ...]
    policies: tuple[Policy, ...]
    startups_s: tuple[float | None, ...] = (None,)
    seeds: tuple[int, ...] = (1,)
    goal: float = 0.99
    frontier_seeds: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy on one load at one start-up time.

    The digests are of the load's trace and of the policy's settings, as they were at the beginning.
    """

    load: Case
    policy: Policy
    startup_s: float | None
    trace_digest: str = ""
    settings_digest: str = ""

    def judged(self, seed: int, knob: float, *, pictured: bool = False) -> Job:
        """The run that counts, with one seed."""
        return self._job(self._case(seed), knob, pictured=pictured)

    def trained(self, seed: int) -> tuple[Job, ...]:
        """The runs that its knob is chosen by."""
        if not self.policy.is_tuned:
            return ()
        case = self._case(seed).training
        return tuple(self._job(case, knob) for knob in self.policy.knobs)

    def _case(self, seed: int) -> Case:
        return replace(
            self.load, startup_s=self.startup_s, seed=seed, trace_digest=self.trace_digest
        )

    def _job(self, case: Case, knob: float, *, pictured: bool = False) -> Job:
        return Job(case, self.policy.name, knob, pictured, self.settings_digest)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a cell: rows at the chosen knob, by seed, and the frontier.

    `trained` are the points that the knob was chosen by; empty where it was not. `frontier`
    is the mean over its seeds, knob by knob.
    """

    cell: Cell
    knob: float
    rows: tuple[Row, ...]
    trained: tuple[Point, ...]
    frontier: tuple[Point, ...]

    def mean(self, name: str) -> float:
        """The mean over seeds of one number of the rows."""
        return fmean(self.values(name))

    def values(self, name: str) -> tuple[float, ...]:
        """One number of the rows, seed by seed."""
        return tuple(float(row[name]) for row in self.rows)


def cells(question: Question) -> tuple[Cell, ...]:
    """Every cell, in the order of loads, start-up times and policies.

    Raises:
        TraceError: every problem of a trace.

    """
    traces = {load: known_trace(load.trace).digest if load.trace else "" for load in question.loads}
    settings = {policy.name: settings_digest_of(policy) for policy in question.policies}
    return tuple(
        Cell(load, policy, startup_s, traces[load], settings[policy.name])
        for load in question.loads
        for startup_s in question.startups_s
        for policy in question.policies
    )


def answer(
    question: Question,
    work: Work,
    executor: Executor,
    results: Results,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Verdict, ...]:
    """Run what `results` does not hold yet, and judge.

    Args:
        question: what is asked.
        work: what runs a job.
        executor: where.
        results: rows of before, to which the new ones are added.
        progress: told how many of how many runs are done; the number of all may grow once,
            when the knobs are chosen.

    Raises:
        ControlLoopError: a job could not be run.

    """
    every = cells(question)
    first = question.seeds[0]
    training = [job for cell in every for job in cell.trained(first)]
    # At most as many as if no chosen knob were on the frontier.
    rest = [job for cell in every for job in _judged(question, cell, cell.policy.knobs[0])]
    left = len(results.missing([*training, *rest]))
    total = _count([*training, *rest])
    done = total - left
    progress(done, total)
    for _ in results.complete(work, training, executor):
        done += 1
        progress(done, total)
    knobs = [_knob(question, cell, results) for cell in every]
    judged = [
        job
        for cell, knob in zip(every, knobs, strict=True)
        for job in _judged(question, cell, knob)
    ]
    total = _count([*training, *judged])
    done = total - len(results.missing(judged))
    progress(done, total)
    for _ in results.complete(work, judged, executor):
        done += 1
        progress(done, total)
    return tuple(
        _verdict(question, cell, knob, results) for cell, knob in zip(every, knobs, strict=True)
    )


def _count(jobs: Sequence[Job]) -> int:
    """How many runs answer these jobs."""
    return len(Results().missing(jobs))


def _judged(question: Question, cell: Cell, knob: float) -> list[Job]:
    at_knob = [
        cell.judged(seed, knob, pictured=seed == question.seeds[0]) for seed in question.seeds
    ]
    around = [
        cell.judged(seed, each)
        for seed in question.seeds[: question.frontier_seeds]
        for each in cell.policy.knobs
        if each != knob
    ]
    return at_knob + around


def _knob(question: Question, cell: Cell, results: Results) -> float:
    if cell.policy.fixed is not None:
        return cell.policy.fixed
    return chosen(_trained(question, cell, results), question.goal).knob


def _trained(question: Question, cell: Cell, results: Results) -> tuple[Point, ...]:
    return tuple(_point([results[job]], job.knob) for job in cell.trained(question.seeds[0]))


def _verdict(question: Question, cell: Cell, knob: float, results: Results) -> Verdict:
    seeds = question.seeds
    some = seeds[: question.frontier_seeds]

    def row(seed: int, at: float) -> Row:
        return results[cell.judged(seed, at, pictured=at == knob and seed == seeds[0])]

    knobs = sorted({*cell.policy.knobs, knob}) if some else [knob]
    return Verdict(
        cell=cell,
        knob=knob,
        rows=tuple(row(seed, knob) for seed in seeds),
        trained=_trained(question, cell, results),
        frontier=tuple(_point([row(seed, at) for seed in some or seeds], at) for at in knobs),
    )


def _point(rows: Sequence[Row], knob: float) -> Point:
    return Point(knob, fmean(row["withinBoth"] for row in rows), fmean(row["cost"] for row in rows))
