"""Benchmark files of every kind, read into sweeps."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlloop.errors import InputError
from controlloop.queueing.benchmark_runs import RunKind
from controlloop.tuner.benchmarks.files import read_benchmarks
from controlloop.tuner.sweeps import Role


def summary(mean: float, median: float | None = None) -> dict[str, Any]:
    middle = mean if median is None else median
    return {
        "successful": {
            "mean": mean,
            "median": middle,
            "std_dev": 0.1 * abs(mean),
            "percentiles": {"p50": middle, "p90": 1.2 * mean, "p95": 1.3 * mean, "p99": 1.5 * mean},
        },
        "incomplete": {"mean": 0.0},
        "errored": {"mean": 0.0},
    }


def benchmark(strategy: dict[str, Any], ttft: float = 40.0, itl: float = 8.0) -> dict[str, Any]:
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy, "requests": {}},
        "scheduler_metrics": {"measure_start_time": 1000.0, "measure_end_time": 1120.0},
        "duration": 120.0,
        "metrics": {
            "requests_per_second": summary(2.0),
            "prompt_token_count": summary(1020.0),
            "output_token_count": summary(64.5),
            "time_to_first_token_ms": summary(ttft),
            "inter_token_latency_ms": summary(itl),
        },
    }


def report() -> dict[str, Any]:
    return {
        "args": {"data": ["prompt_tokens=1024,output_tokens=64"]},
        "benchmarks": [
            benchmark({"type_": "synchronous"}),
            benchmark({"type_": "constant", "rate": 2.5}, ttft=45.0),
            benchmark({"type_": "constant", "rate": 5.0}, ttft=50.0),
            benchmark({"type_": "concurrent", "streams": 32}, ttft=90.0),
            benchmark({"type_": "throughput", "max_concurrency": None}, ttft=900.0),
        ],
    }


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def problems_in(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_benchmarks([path], max_batch=64)
    return str(caught.value).splitlines()


def test_a_guidellm_report_is_read_by_strategy(tmp_path: Path) -> None:
    found = read_benchmarks([write(tmp_path / "b.json", report())], max_batch=64)
    sweeps = found.sweeps
    assert sweeps.shapes == ("i1024-o64",)
    kinds = [RunKind.SYNCHRONOUS, RunKind.CONSTANT, RunKind.CONSTANT, RunKind.CLOSED]
    assert sweeps.runs.kind.tolist() == [*kinds, RunKind.CLOSED]
    assert sweeps.runs.rate_rps[1:3].tolist() == [2.5, 5.0]
    assert sweeps.runs.clients[3:].tolist() == [32.0, 64.0]
    assert sweeps.role.tolist()[1:3] == [Role.CONSTANT, Role.TOP]
    np.testing.assert_allclose(sweeps.ttft_ms, [40, 45, 50, 90, 900])
    np.testing.assert_allclose(sweeps.input_tokens, 1020.0)
    np.testing.assert_allclose(sweeps.runs.duration_s, 120.0)
    assert found.labels == (
        "synchronous", "constant 2.5/s", "constant 5/s", "32 clients", "throughput",
    )  # fmt: skip


def test_an_older_report_has_strategy_and_length_elsewhere(tmp_path: Path) -> None:
    old = report()
    old.pop("args")
    for each in old["benchmarks"]:
        each["args"] = {"strategy": each.pop("config")["strategy"]}
        each.pop("scheduler_metrics")
        each.pop("duration")
        each["run_stats"] = {"start_time": 5.0, "end_time": 65.0}
    sweeps = read_benchmarks([write(tmp_path / "b.json", old)], max_batch=64).sweeps
    np.testing.assert_allclose(sweeps.runs.duration_s, 60.0)
    # Nothing says what was asked for: the means to two figures name the shape.
    assert sweeps.shapes == ("i1000-o64",)


def test_a_corrupt_mean_gives_way_to_the_median(tmp_path: Path) -> None:
    document = report()
    document["benchmarks"][1]["metrics"]["time_to_first_token_ms"] = summary(-4e12, 44.0)
    sweeps = read_benchmarks([write(tmp_path / "b.json", document)], max_batch=64).sweeps
    assert sweeps.ttft_ms[1] == 44.0


def test_runs_with_arrivals_by_chance_are_left_out_and_named(tmp_path: Path) -> None:
    document = report()
    document["benchmarks"].append(benchmark({"type_": "poisson", "rate": 3.0}))
    found = read_benchmarks([write(tmp_path / "b.json", document)], max_batch=64)
    assert len(found.sweeps) == 5
    (skipped,) = found.skipped
    assert "benchmarks[5]" in skipped
    assert "poisson" in skipped


def test_nothing_but_left_out_runs_is_an_error(tmp_path: Path) -> None:
    document = {"benchmarks": [benchmark({"type_": "poisson", "rate": 3.0})]}
    (line,) = problems_in(write(tmp_path / "b.json", document))
    assert "no run that can be used" in line


def test_every_problem_of_a_report_is_named_by_its_place(tmp_path: Path) -> None:
    document = report()
    first, second, third, fourth, fifth = document["benchmarks"]
    del first["metrics"]["inter_token_latency_ms"]
    second["config"]["strategy"]["rate"] = 0
    third["config"]["strategy"]["type_"] = "bursty"
    fourth["metrics"]["prompt_token_count"]["successful"]["mean"] = "many"
    fifth["metrics"]["time_to_first_token_ms"] = summary(0.0)
    text = "\n".join(problems_in(write(tmp_path / "b.json", document)))
    assert "benchmarks[0].metrics.inter_token_latency_ms: is missing" in text
    assert "benchmarks[1].config.strategy.rate: must be > 0, got 0" in text
    assert "benchmarks[2].config.strategy.type_: must be one of" in text
    assert "prompt_token_count.successful.mean: must be a finite number, got many" in text
    assert "benchmarks[4].metrics.time_to_first_token_ms.successful.mean: must be > 0" in text


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "line 1"),
        ("[1]", "is no benchmark"),
        ('{"benchmarks": []}', "at least one benchmark"),
        ('{"benchmarks": [3]}', "must be an object"),
        ('{"benchmarks": [{}]}', "benchmarks[0].config: is missing"),
        ('{"sweeps": {}}', "no run"),
        ('{"sweeps": {"a": [3]}}', "sweeps.a[0]"),
        ('{"sweeps": {"a": [{"strategy": "synchronous"}]}}', "is missing"),
    ],
)
def test_what_is_no_benchmark_is_said(tmp_path: Path, document: str, said: str) -> None:
    path = write(tmp_path / "b.json", document)
    lines = problems_in(path)
    assert any(said in line for line in lines)
    assert all(str(path) in line for line in lines)


def test_csv_takes_runs_of_constant_rate_and_others(tmp_path: Path) -> None:
    text = (
        "strategy,rate_rps,input_tokens,output_tokens,ttft_ms,itl_ms,ttft_ms_p95\n"
        ",2,512,128,30,8,44\n"
        "constant,4,512,128,33,9,\n"
        "synchronous,,512,128,25,7,\n"
    )
    sweeps = read_benchmarks([write(tmp_path / "b.csv", text)], max_batch=64).sweeps
    assert sweeps.shapes == ("i510-o130",)
    assert sweeps.runs.kind.tolist() == [RunKind.CONSTANT, RunKind.CONSTANT, RunKind.SYNCHRONOUS]
    assert sweeps.role.tolist() == [Role.CONSTANT, Role.TOP, Role.SYNCHRONOUS]
    np.testing.assert_allclose(sweeps.itl_ms, [8, 9, 7])
    assert sweeps.ttft_percentiles[2, 0] == 44.0


def test_the_batch_is_told_by_the_clients_of_saturated_runs(tmp_path: Path) -> None:
    document = report()
    path = tmp_path / "b.json"
    found = read_benchmarks([write(path, document)])
    assert (found.max_batch, found.sweeps.runs.clients[3:].tolist()) == (32, [32.0, 32.0])
    for totals, clients in (
        ({"metrics": {"request_totals": {"incomplete": 128}}}, 128),
        ({"request_totals": {"incomplete": 64}}, 64),
        # It ended with its last requests: what was in flight on average tells more.
        (
            {
                "request_totals": {"incomplete": 2},
                "metrics": {"request_concurrency": summary(99.2)},
            },
            100,
        ),
    ):
        told = copy.deepcopy(document)
        saturated = told["benchmarks"][-1]
        saturated["metrics"] |= totals.get("metrics", {})
        saturated |= {name: each for name, each in totals.items() if name != "metrics"}
        found = read_benchmarks([write(path, told)])
        assert found.max_batch == clients
        assert found.sweeps.max_batch.tolist() == [clients] * 5
        assert found.sweeps.runs.clients[3:].tolist() == [32.0, clients]
        # What is given holds; the clients stay as many as they were.
        given = read_benchmarks([path], max_batch=48)
        assert (given.max_batch, given.max_batch_from) == (48, "as given")
        assert given.sweeps.runs.clients[4] == clients


def test_without_a_saturated_run_the_batch_is_a_usual_one(tmp_path: Path) -> None:
    document = report()
    del document["benchmarks"][3:]
    found = read_benchmarks([write(tmp_path / "b.json", document)])
    assert found.max_batch == 256
    assert "no run says" in found.max_batch_from


def test_a_table_holds_what_reduced_sweeps_hold(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    path = shared_data("measured/vllm-llama-3.1-8b-sweeps.json")
    sweeps = json.loads(path.read_text())["sweeps"]
    rows = [{"shape": shape} | run for shape, runs in sweeps.items() for run in runs]
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    table, document = read_benchmarks([tmp_path / "b.csv"]), read_benchmarks([path])
    assert table.labels == document.labels
    assert table.max_batch == document.max_batch
    # Corrupt means among them.
    np.testing.assert_array_equal(table.sweeps.ttft_ms, document.sweeps.ttft_ms)
    np.testing.assert_array_equal(table.sweeps.runs.rate_rps, document.sweeps.runs.rate_rps)
    np.testing.assert_array_equal(table.sweeps.runs.clients, document.sweeps.runs.clients)
    np.testing.assert_array_equal(table.sweeps.itl_percentiles, document.sweeps.itl_percentiles)


def test_csv_errors_name_line_and_column(tmp_path: Path) -> None:
    text = (
        "rate_rps,input_tokens,output_tokens,ttft_ms,itl_ms\n"
        "2,512,128,abc,8\n"
        "3,512,128,30,-8\n"
        ",512,128,30,8\n"
        "3,512,128,30,8,9\n"
        "3,512,128,nan,8\n"
    )
    lines = "\n".join(problems_in(write(tmp_path / "b.csv", text)))
    assert "line 2.ttft_ms: must be a number, got abc" in lines
    assert "line 3.itl_ms: must be > 0, got -8" in lines
    assert "line 4.rate_rps: is missing" in lines
    assert "line 5: has more cells than the header" in lines
    assert "line 6.ttft_ms: must be > 0, got nan" in lines


def test_csv_without_the_columns_is_refused_at_once(tmp_path: Path) -> None:
    (line,) = problems_in(write(tmp_path / "b.csv", "rate_rps,ttft_ms\n1,2\n"))
    assert "input_tokens, output_tokens, itl_ms" in line


def test_several_files_make_one_set_and_all_their_problems_are_told(tmp_path: Path) -> None:
    other = copy.deepcopy(report())
    other["args"]["data"] = ["prompt_tokens=256,output_tokens=64"]
    good = [write(tmp_path / "a.json", report()), write(tmp_path / "b.json", other)]
    assert read_benchmarks(good, max_batch=64).sweeps.shapes == ("i1024-o64", "i256-o64")
    bad = [write(tmp_path / "c.json", "{}"), tmp_path / "absent.json"]
    with pytest.raises(InputError) as caught:
        read_benchmarks([*good, *bad], max_batch=64)
    assert [problem.source for problem in caught.value.problems] == [str(each) for each in bad]
