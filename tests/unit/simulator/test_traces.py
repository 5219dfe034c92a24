"""Traces: read as a stream, multiplied, and refused with every bad line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from controlloop.simulator.workloads.trace import Trace, TraceError

pytestmark = pytest.mark.slow

SEED = np.random.SeedSequence(4)


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def many(folder: Path, count: int) -> Path:
    path = folder / "long.csv"
    with path.open("w", encoding="utf-8") as stream:
        stream.write("arrival_s,input_tokens,output_tokens\n")
        stream.writelines(f"{0.01 * each:.2f},100,{1 + each % 50}\n" for each in range(count))
    return path


def test_a_trace_is_read_as_it_is(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n\n"
        "2023-11-16 18:17:06.0319600,110,0\n",
    )
    requests = Trace(path).open(SEED).take(10.0)
    assert requests.times_s.tolist() == pytest.approx([0.0, 0.052, 2.052])
    assert requests.input_tokens.tolist() == [4808, 3180, 110]
    assert requests.output_tokens.tolist() == [10, 8, 1]


def test_seconds_and_other_spellings_are_read_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path, "output tokens,user,Time,prompt_tokens\n7,a,1.5,30\n8,b,2.5,40\n")
    requests = Trace(path).open(SEED).take(10.0)
    assert requests.times_s.tolist() == [1.5, 2.5]
    assert requests.output_tokens.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: not even a header"),
        ("time,input_tokens,output_tokens\n", "is empty: a header and no request"),
        ("time,tokens\n1,2\n", "line 1: the header has no column for input tokens, output tokens"),
        ("time,input_tokens,output_tokens\n2,1,1\n1,1,1\n", "line 3, time: must not be before"),
        ("time,input_tokens,output_tokens\n1,-4,1\n", "line 2, input tokens: must be >= 0, got -4"),
        ("time,input_tokens,output_tokens\n1,4,-1\n", "line 2, output tokens: must be >= 0"),
        ("time,input_tokens,output_tokens\n1,4.5,1\n", "line 2, input tokens: must be a whole"),
        ("time,input_tokens,output_tokens\nnan,4,1\n", "line 2, time: must be a timestamp or"),
        ("time,input_tokens,output_tokens\n-1,4,1\n", "line 2, time: must be >= 0, got -1"),
        ("time,input_tokens,output_tokens\n1,4\n", "line 2: has too few columns, got 1,4"),
        ("time,input_tokens,output_tokens\n1,4,inf\n", "line 2, output tokens: must be a whole"),
        ("time,input_tokens,output_tokens\n1,4,1\n1e300,4,1\n", "line 3, time: must be in seconds"),
        ("time,input_tokens,output_tokens\n1.7e12,4,1\n", "line 2, time: must be in seconds"),
    ],
)
def test_a_bad_trace_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        Trace(path).summary()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_bad_lines_are_told_at_once(tmp_path: Path) -> None:
    lines = "".join(f"{each},{-each},1\n" for each in range(1, 6))
    with pytest.raises(TraceError) as caught:
        Trace(write(tmp_path, "time,input_tokens,output_tokens\n" + lines)).summary()
    assert [problem.path for problem in caught.value.problems] == [
        f"line {each}, input tokens" for each in range(2, 7)
    ]


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        Trace(tmp_path / "nothing.csv").open(SEED).take(1.0)


def test_copies_multiply_the_load_and_keep_its_shape(tmp_path: Path) -> None:
    path = many(tmp_path, 20_000)
    copies = Trace(path, replication=3.5, jitter_s=2.0).open(SEED).take(np.inf)
    assert len(copies) == pytest.approx(70_000, rel=0.01)
    assert np.all(np.diff(copies.times_s) >= 0)
    assert np.min(copies.times_s) >= 0
    # Copies do not come at once.
    assert np.mean(np.diff(copies.times_s) == 0) < 0.01
    thinned = Trace(path, replication=0.25).open(SEED).take(np.inf)
    assert len(thinned) == pytest.approx(5_000, rel=0.05)


def test_how_copies_are_taken_does_not_change_them(tmp_path: Path) -> None:
    trace = Trace(many(tmp_path, 9_000), replication=1.5, jitter_s=5.0)
    whole = trace.open(SEED).take(np.inf)
    stream = trace.open(SEED)
    parts = [stream.take(float(moment)) for moment in range(0, 120, 7)]
    assert np.array_equal(np.concatenate([part.times_s for part in parts]), whole.times_s)


def test_seconds_of_the_epoch_count_from_the_first_request(tmp_path: Path) -> None:
    lines = "".join(f"{1_700_000_000 + each / 2},4,1\n" for each in range(5))
    path = write(tmp_path, "time,input_tokens,output_tokens\n" + lines)
    assert list(Trace(path).open(SEED).take(np.inf).times_s) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert Trace(path).summary().mean_rate_rps == pytest.approx(2.5)


def test_requests_copied_often_are_not_copied_all_at_once(tmp_path: Path) -> None:
    stream = Trace(many(tmp_path, 400), replication=1e4, jitter_s=0.01).open(SEED)
    tracemalloc.start()
    try:
        assert len(stream.take(0.5)) == pytest.approx(5e5, rel=0.05)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # All 4 million copies would take over 100 MB.
    assert peak < 60e6


def test_too_few_requests_are_no_load(tmp_path: Path) -> None:
    path = write(tmp_path, "time,input_tokens,output_tokens\n0,4,1\n1e9,4,1\n")
    with pytest.raises(TraceError, match=r"2 requests in 1e\+09 s are too few: a load of 5 requ"):
        Trace(path).summary().replication_to(5.0, path)


def test_a_part_of_a_trace_begins_at_0(tmp_path: Path) -> None:
    trace = Trace(many(tmp_path, 9_000), start_s=30.0, end_s=60.0)
    part = trace.open(SEED).take(np.inf)
    assert (len(part), part.times_s[0]) == (3000, 0.0)
    summary = trace.summary()
    assert (summary.requests, summary.duration_s) == (3000, 30.0)
    with pytest.raises(TraceError, match="has no request between 500 s and 600 s"):
        Trace(trace.path, start_s=500.0, end_s=600.0).summary()


def test_a_long_trace_is_not_held_in_memory(tmp_path: Path) -> None:
    path = many(tmp_path, 60_000)
    stream = Trace(path, replication=2.0, jitter_s=1.0).open(SEED)
    tracemalloc.start()
    try:
        counts = [len(stream.take(float(until))) for until in range(10, 700, 10)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(counts) == 120_000
    # A block of lines is about 2 MB while it is parsed; all of them would be ten times that.
    assert most < 4e6


def test_the_azure_trace_works_as_it_is(shared_data: Callable[[str], Path]) -> None:
    summary = Trace(shared_data("traces/azure-llm-2023-code.csv")).summary()
    assert summary.requests == 8819
    assert summary.duration_s == pytest.approx(3435.9, abs=0.1)
