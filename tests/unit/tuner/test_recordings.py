from __future__ import annotations

import json
from typing import Any

import pytest

from controlloop.errors import InputError
from controlloop.tuner.measurement import Measurement, Rejection
from controlloop.tuner.recordings import (
    Assumed,
    Recorded,
    read_csv_recording,
    read_json_recording,
)

ONE: dict[str, Any] = {
    "time": "2026/04/21 11:35:03",
    "model": "m",
    "accelerator": "a",
    "replica": 0,
    "arrival_rate_rpm": 30.0,
    "max_batch": 64,
    "input_tokens": 500.0,
    "output_tokens": 200.0,
    "ttft_ms": 80.0,
    "itl_ms": 20.0,
}


def read(*observations: dict[str, Any], assumed: Assumed | None = None) -> tuple[Recorded, ...]:
    text = json.dumps({"source": "somewhere", "observations": list(observations)})
    return read_json_recording(text.encode(), "r.json", assumed or Assumed())


def test_an_observation_is_a_measurement_in_the_units_inside() -> None:
    (found,) = read(ONE, assumed=Assumed(interval_s=20.0))
    assert found.sample.pair == ("m", "a")
    assert found.sample.found == Measurement(
        time=1776771303.0,
        rate_rps=0.5,
        input_tokens=500.0,
        output_tokens=200.0,
        max_batch=64,
        itl_ms=20.0,
        ttft_ms=80.0,
        requests=10.0,
        source="0",
    )


def test_the_distance_of_observations_is_their_interval() -> None:
    found = read(*(ONE | {"time": time} for time in ("60", 90.0, 150)))
    assert [each.time for each in found] == [60.0, 90.0, 150.0]
    assert all(
        isinstance(each.sample.found, Measurement) and each.sample.found.requests == 22.5
        for each in found
    )


@pytest.mark.parametrize(
    ("times", "order"),
    [
        # A clock of one replica that goes backwards is left to the gate.
        ([(60.0, 0), (120.0, 0), (30.0, 0), (180.0, 0)], [60.0, 120.0, 30.0, 180.0]),
        # One replica after the other.
        ([(60.0, 0), (120.0, 0), (60.0, 1), (90.0, 1)], [60.0, 60.0, 90.0, 120.0]),
        # The newest first.
        ([(90.0, 1), (90.0, 0), (60.0, 0), (30.0, 1)], [30.0, 60.0, 90.0, 90.0]),
    ],
)
def test_each_replica_keeps_the_order_of_the_file_and_several_are_merged(
    times: list[tuple[float, int]], order: list[float]
) -> None:
    found = read(*(ONE | {"time": time, "replica": replica} for time, replica in times))
    assert [each.time for each in found] == order


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"itl_ms": None}, Rejection.MISSING),
        ({"arrival_rate_rpm": None}, Rejection.MISSING),
        ({"input_tokens": None}, Rejection.MISSING),
        ({"max_batch": None}, Rejection.BATCH_UNKNOWN),
        ({"max_batch": float("nan")}, Rejection.NOT_FINITE),
    ],
)
def test_a_value_that_is_not_there_is_no_measurement(
    change: dict[str, Any], reason: Rejection
) -> None:
    (found,) = read(ONE | change)
    assert found.sample.found is reason


def test_what_the_recording_does_not_say_may_be_assumed() -> None:
    silent = {name: value for name, value in ONE.items() if name != "max_batch"}
    (found,) = read(silent, assumed=Assumed(max_batch=32))
    assert isinstance(found.sample.found, Measurement)
    assert found.sample.found.max_batch == 32


def test_every_problem_is_named_with_its_place() -> None:
    with pytest.raises(InputError) as refused:
        read(ONE | {"model": ""}, ONE | {"itl_ms": "fast"})
    text = str(refused.value)
    assert "observations[0].model" in text
    assert "observations[1].itl_ms" in text
    with pytest.raises(InputError, match=r"observations\[0\]\.time"):
        read(ONE | {"time": "yesterday"})


def test_a_table_may_use_other_names_of_columns_and_leave_columns_out() -> None:
    text = "\ufeffRPM,tokens,avgConcurrency,maxConcurrency,avgWait,avgITL\n600,1000,29,64,0.1,2.7\n"
    assumed = Assumed(model="opt", accelerator="A100", input_tokens=100.0)
    (found,) = read_csv_recording(text, "t.csv", assumed)
    assert found.sample.pair == ("opt", "A100")
    one = found.sample.found
    assert isinstance(one, Measurement)
    assert (one.rate_rps, one.max_batch, one.itl_ms, one.ttft_ms) == (10.0, 64, 2.7, None)


def test_a_table_without_its_columns_or_with_words_for_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="itl_ms"):
        read_csv_recording("RPM,tokens\n1,2\n", "t.csv", Assumed())
    with pytest.raises(InputError, match="line 3, itl_ms"):
        read_csv_recording("rpm,tokens,itl_ms\n1,2,3\n1,2,three\n", "t.csv", Assumed())


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e400"])
def test_a_time_that_is_not_finite_orders_nothing_and_is_refused(time: str) -> None:
    row = {"time": time, "model": "m", "accelerator": "a"}
    text = json.dumps({"observations": [row]}).encode()

    with pytest.raises(InputError, match=r"observations\[0\]\.time: must be a time"):
        read_json_recording(text, "file.json", Assumed())
