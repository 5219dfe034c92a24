from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.app import app
from controlloop.errors import InputError
from controlloop.queueing.models import replicas
from controlloop.queueing.state_dependent import StateDependent

TRUTH = (12.0, 0.3, 25.0, 0.002)


def replay(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["tune", "replay", *map(str, arguments)])


def observations(count: int) -> Iterator[dict[str, Any]]:
    model, pair = StateDependent(), replicas(64, 500.0, 200.0, TRUTH)
    rng = np.random.default_rng(0)
    for number in range(count):
        rate = (0.5 - 0.35 * math.cos(number / 4)) * model.rate_range_rps(pair)[1]
        analysis = model.analyze(pair, rate)
        noise = np.exp(rng.normal(0, 0.02, 2))
        yield {
            "time": 60.0 * number,
            "model": "m",
            "accelerator": "a",
            "replica": 0,
            "arrival_rate_rpm": 60 * float(rate[0]),
            "max_batch": 64,
            "input_tokens": 500.0,
            "output_tokens": 200.0,
            "ttft_ms": float(analysis.ttft_ms[0] * noise[0]),
            "itl_ms": float(analysis.itl_ms[0] * noise[1]),
        }


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rows = list(observations(60))
    rows[40]["itl_ms"] *= 10
    rows[41]["ttft_ms"] = float("nan")
    path = tmp_path / "observations.json"
    path.write_text(json.dumps({"observations": rows}))
    return path


MODEL = ("--queue-model", "state-dependent")


def test_it_says_what_was_learned_what_was_not_and_how_well_it_predicted(recording: Path) -> None:
    done = replay(recording, *MODEL, "--format", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (pair,) = document["pairs"]
    assert pair["turnedAway"] == {"outlier": 1, "not-finite": 1}
    assert pair["secondHalf"]["itlErrorMedian"] < 0.03
    assert pair["estimate"]["trust"] == "trusted"
    learned = pair["estimate"]["parameters"]
    assert learned["alpha_ms"] == pytest.approx(TRUTH[0], rel=0.05)
    assert len(document["trajectory"]) == 60
    outcomes = [each["outcome"] for each in document["trajectory"]]
    assert outcomes[:5] == ["collected"] * 4 + ["accepted"]
    assert outcomes[40:42] == ["outlier", "not-finite"]


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"itl_ms": 0.0}, "not-positive"),
    ({"ttft_ms": -4.0}, "not-positive"),
    ({"arrival_rate_rpm": 0.0}, "not-positive"),
    ({"itl_ms": float("nan")}, "not-finite"),
    ({"ttft_ms": float("inf")}, "not-finite"),
    ({"output_tokens": None}, "missing"),
    ({"requests": 1}, "too-few-requests"),
    ({"max_batch": 0}, "not-positive"),
    ({"time": 60.0}, "time-backwards"),
    ({"model": "other"}, "unknown-pair"),
    ({}, "stale"),
)


def test_bad_observations_change_nothing_but_counts(tmp_path: Path) -> None:
    clean, disturbed = list(observations(24)), []
    for number, row in enumerate(clean):
        disturbed.append(row)
        if 0 <= number - 10 < len(BAD):
            change = BAD[number - 10][0]
            disturbed.append(row | ({"time": row["time"] + 30.0} if change else {}) | change)
    path, data = tmp_path / "observations.json", tmp_path / "model-data.json"
    entry = {
        "name": "m", "acc": "a", "maxBatchSize": 64, "atTokens": 200,
        "decodeParms": {"alpha": 10, "beta": 0.5}, "prefillParms": {"gamma": 20, "delta": 0.003},
    }  # fmt: skip
    data.write_text(json.dumps({"models": [entry]}))
    found = []
    for rows in (disturbed, clean):
        path.write_text(json.dumps({"observations": rows}))
        options = ("--model-data", data, "--format", "json", "--interval", "60")
        done = replay(path, *options)
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout)["trajectory"])
    steps, undisturbed = found
    bad = steps[11 : 11 + 2 * len(BAD) : 2]
    assert [each["outcome"] for each in bad] == [reason for _, reason in BAD]
    # Nothing of them is in what is known, then or later.
    del steps[11 : 11 + 2 * len(BAD) : 2]
    for name in ("outcome", "parameters", "standardErrors", "predictedTtft", "predictedItl"):
        assert [each[name] for each in steps] == [each[name] for each in undisturbed], name


def test_the_table_names_the_pair_and_its_verdict(recording: Path) -> None:
    done = replay(recording, *MODEL)
    assert done.exit_code == 0
    for word in ("m on a", "alpha_ms", "trusted", "1 outlier"):
        assert word in done.stdout


def test_it_starts_from_the_model_data_that_is_given(recording: Path, tmp_path: Path) -> None:
    data = tmp_path / "model-data.json"
    entry = {
        "name": "m",
        "acc": "a",
        "accCount": 1,
        "maxBatchSize": 64,
        "atTokens": 200,
        "decodeParms": {"alpha": 10, "beta": 0.5},
        "prefillParms": {"gamma": 20, "delta": 0},
    }
    data.write_text(json.dumps({"models": [entry]}))
    done = replay(recording, "--model-data", data, "--format", "json")
    assert done.exit_code == 0, done.output
    (pair,) = json.loads(done.stdout)["pairs"]
    # What is configured as 0 stays 0.
    assert pair["estimate"]["parameters"]["delta_ms"] == 0.0
    entry["acc"] = "other"
    data.write_text(json.dumps({"models": [entry]}))
    (pair,) = json.loads(replay(recording, "--model-data", data, "--format", "json").stdout)[
        "pairs"
    ]
    assert pair["estimate"] is None
    assert pair["turnedAway"] == {"unknown-pair": 60}


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_the_trajectory_has_a_row_for_each_observation(
    recording: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"learned{suffix}"
    assert replay(recording, *MODEL, "--trajectory", path).exit_code == 0
    if suffix == ".json":
        rows = json.loads(path.read_text())
        alpha = [row["parameters"]["alpha_ms"] for row in rows]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        alpha = [float(row["alpha_ms"]) for row in rows]
        assert float(rows[-1]["alpha_ms_error"]) < 0.1
    assert len(rows) == 60
    assert alpha[-1] == pytest.approx(TRUTH[0], rel=0.05)


def test_the_picture_is_drawn(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "learned.png"
    assert replay(recording, *MODEL, "--plot", path).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_the_picture_tells_small_errors_from_none(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "learned.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        assert replay(recording, *MODEL, "--plot", path).exit_code == 0
    picture = path.read_text()
    assert ">0.1%<" in picture
    assert ">0%<" not in picture


def test_metrics_of_a_real_engine_go_through_the_collectors_arithmetic(
    shared_data: Callable[[str], Path],
) -> None:
    path = shared_data("vllm-recordings/overload.jsonl.gz")
    done = replay(path, "--max-batch", "16", "--interval", "15", *MODEL, "--format", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (pair,) = document["pairs"]
    # From idle to an overload that slows the machine down ninefold: it is found out again.
    assert pair["estimate"]["trust"] == "trusted"
    assert pair["secondHalf"]["itlErrorMedian"] < 0.15
    first = document["trajectory"][6]["parameters"]["alpha_ms"]
    assert pair["estimate"]["parameters"]["alpha_ms"] > 4 * first
    # What waited minutes teaches no time to first token.
    assert all(
        step["observedTtft"] is None or step["observedTtft"] < 1000
        for step in document["trajectory"]
    )


@pytest.mark.parametrize(
    ("model", "latencies"), [("roofline", ("ttft", "itl")), ("iteration-time", ("itl",))]
)
def test_common_values_are_left_far_behind_although_the_load_only_falls(
    shared_data: Callable[[str], Path], tmp_path: Path, model: str, latencies: tuple[str, ...]
) -> None:
    """Reading a token of context costs this pair eighteen times the common value.

    iteration-time knows no constant of TTFT, which this pair has.
    """
    document = json.loads(shared_data("observations/replica-observations-a.json").read_text())
    own = [each for each in document["observations"] if each["model"] == "llama_13b"]
    path = tmp_path / "observations.json"
    path.write_text(json.dumps({"observations": own[len(own) // 3 :]}))
    done = replay(path, "--queue-model", model, "--format", "json")
    (pair,) = json.loads(done.stdout)["pairs"]
    for latency in latencies:
        assert pair["secondHalf"][f"{latency}ErrorMedian"] <= 0.03
        assert pair["secondHalf"][f"{latency}ErrorP90"] <= 0.08


def test_a_table_of_itl_alone_is_learned_as_far_as_it_goes(
    shared_data: Callable[[str], Path],
) -> None:
    path = shared_data("observations/offline-opt125m-a100.csv")
    done = replay(path, "--input-tokens", "128", *MODEL, "--format", "json")
    assert done.exit_code == 0, done.output
    (pair,) = json.loads(done.stdout)["pairs"]
    assert pair["secondHalf"]["itlErrorMedian"] < 0.05
    errors = pair["estimate"]["standardErrors"]
    assert errors["alpha_ms"] < 0.1
    assert errors["gamma_ms"] > 0.5


@pytest.mark.parametrize(
    ("name", "text", "arguments", "words"),
    [
        ("r.json", "{", (), "is not JSON"),
        ("r.json", '{"observations": []}', (), "no observation"),
        ("r.json", "[]", (), "object"),
        ("r.csv", "a,b\n1,2\n", (), "must name the columns"),
        ("r.jsonl", '{"t": 0}\n', ("--max-batch", "8"), "line 1"),
        ("r.jsonl", '{"t": 0, "exposition": []}\n', (), "--max-batch"),
        ("r.json", '{"observations": [{"time": 0}]}', (), "observations[0].model"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, arguments: tuple[str, ...], words: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    done = replay(path, *arguments)
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)


def test_files_that_cannot_be_read_and_options_that_are_wrong(
    tmp_path: Path, recording: Path
) -> None:
    torn = tmp_path / "r.json.gz"
    torn.write_bytes(gzip.compress(b'{"observations": []}')[:-9])
    for arguments in (
        (tmp_path / "none.json",),
        (torn,),
        (recording, "--plot", tmp_path / "picture.txt"),
        (recording, "--trajectory", tmp_path / "learned.txt"),
        (recording, "--model-data", tmp_path / "none.json"),
        (recording, *MODEL, "--trajectory", tmp_path / "no" / "folder.csv"),
    ):
        assert isinstance(replay(*arguments).exception, InputError), arguments
