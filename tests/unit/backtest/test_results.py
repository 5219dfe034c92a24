from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from controlloop.backtest.case import Case
from controlloop.backtest.executors import Here, Processes, Work
from controlloop.backtest.jobs import Job, Row
from controlloop.backtest.results import Results
from controlloop.errors import InputError, Problem

JOBS = [Job(Case("step", seed=seed), "loop", 0.1) for seed in range(4)]


def pretend(job: Job) -> Row:
    return {"withinBoth": 0.5 + job.case.seed / 10, "cost": 1.0}


def finish(results: Results, jobs: Sequence[Job], work: Work = pretend) -> list[Job]:
    return list(results.complete(work, jobs, Here()))


def test_a_job_is_named_by_everything_that_makes_it() -> None:
    job = JOBS[0]
    others = [
        *JOBS[1:],
        replace(job, policy="kpa"),
        replace(job, knob=0.2),
        replace(job, settings_digest="a"),
        replace(job, case=job.case.training),
        replace(job, case=replace(job.case, trace_digest="b")),
    ]
    assert len({each.key for each in (job, *others)}) == 1 + len(others)


def test_a_trace_that_lies_elsewhere_is_the_same_job() -> None:
    def job(path: str, digest: str) -> Job:
        return Job(Case("trace", path, trace_digest=digest), "kpa", 0.5)

    assert job("/here/a.csv", "1").key == job("/there/a.csv", "1").key
    assert job("/here/a.csv", "1").key != job("/here/a.csv", "2").key


def test_what_is_in_the_file_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    finish(Results(path), JOBS[:2])

    again = Results(path)
    assert again.missing(JOBS) == JOBS[2:]
    assert finish(again, JOBS) == JOBS[2:]
    assert again[JOBS[1]] == {"withinBoth": 0.6, "cost": 1.0}
    assert len(path.read_text().splitlines()) == 4


def test_an_interrupt_loses_nothing_that_is_done(tmp_path: Path) -> None:
    def interrupted(job: Job) -> Row:
        if job.case.seed == 2:
            raise KeyboardInterrupt
        return pretend(job)

    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        finish(Results(path), JOBS, interrupted)
    assert Results(path).missing(JOBS) == JOBS[2:]


def test_a_line_cut_off_in_the_middle_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    finish(Results(path), JOBS)
    path.write_text(path.read_text()[:-20])

    results = Results(path)
    assert results.missing(JOBS) == JOBS[3:]
    finish(results, JOBS)
    assert Results(path).missing(JOBS) == []


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping list\nmilk\n")

    with pytest.raises(InputError, match=r"notes\.txt: line 1: is no line of results"):
        Results(path)
    assert path.read_text() == "shopping list\nmilk\n"


def test_a_file_that_cannot_even_be_looked_at_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Results(Path("x" * 300))


def test_a_job_that_fails_stops_what_has_not_begun(tmp_path: Path) -> None:
    begun = []

    class Lazy:
        def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, Row]]:
            for job in jobs:
                begun.append(job)
                yield job, work(job)

    for job in Results(tmp_path / "r.jsonl").complete(pretend, JOBS, Lazy()):
        assert job == JOBS[0]
        break
    assert begun == JOBS[:1]


@pytest.mark.slow
def test_processes_do_the_same_work(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    done = list(Results(path).complete(key_length, JOBS, Processes(2)))
    assert sorted(done, key=lambda job: job.key) == sorted(JOBS, key=lambda job: job.key)
    rows = [json.loads(line)["row"] for line in path.read_text().splitlines()]
    assert all(row["cost"] == len(JOBS[0].key) for row in rows)


def bad_input(job: Job) -> Row:
    raise InputError([Problem("line 3", "must be >= 0", str(job.knob))], "trace.csv")


@pytest.mark.slow
def test_bad_input_that_a_process_finds_is_told_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^trace\.csv: line 3: must be >= 0, got 0\.1$"):
        list(Results().complete(bad_input, JOBS[:1], Processes(1)))


def key_length(job: Job) -> Row:
    return {"cost": len(job.key)}
