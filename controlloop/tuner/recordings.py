"""Recorded observations of replicas: JSON or CSV to samples, in order of time.

An observation names time, model, accelerator, replica, arrival_rate_rpm, max_batch,
input_tokens, output_tokens, ttft_ms and itl_ms, and may name requests (behind the means),
throughput_rpm, running and waiting. A value that is null, NaN or missing is turned away like any
bad observation; a document that is no such recording is an error.

Observations of one replica keep the order of the file, so that a clock that goes backwards is
seen as in the loop; those of several are merged by time. A file with the newest first is turned
round.
"""

from __future__ import annotations

import csv
import heapq
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import Field

from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.spec_types import Form, Name
from controlloop.errors import InputError, Problem
from controlloop.tuner.measurement import Measurement, Rejection
from controlloop.tuner.pairs import Sample
from controlloop.units import rps_from_rpm

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rpm": "arrival_rate_rpm",
        "tokens": "output_tokens",
        "maxconcurrency": "max_batch",
        "avgitl": "itl_ms",
    }
)
"""Other names of columns, in small letters."""
NEEDED: Final = ("arrival_rate_rpm", "output_tokens", "itl_ms")
LEAST_INTERVAL_S: Final = 1.0

_Value = Annotated[float | None, Field(strict=True)]


class RecordedObservation(Form):
    """One replica over one interval; rates in requests/minute, times in ms."""

    time: str | float
    model: Name
    accelerator: Name
    replica: str | int = ""
    arrival_rate_rpm: _Value = None
    max_batch: _Value = None
    input_tokens: _Value = None
    output_tokens: _Value = None
    ttft_ms: _Value = None
    itl_ms: _Value = None
    requests: _Value = None
    throughput_rpm: _Value = None
    running: _Value = None
    waiting: _Value = None


class Recording(Form):
    """A document of observations."""

    observations: tuple[RecordedObservation, ...]


@dataclass(frozen=True, slots=True)
class Assumed:
    """What holds where a recording does not say.

    `interval_s` None: the median time between observations, or a minute.
    """

    model: str = "model"
    accelerator: str = "accelerator"
    max_batch: int | None = None
    input_tokens: float | None = None
    interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One sample with its time, in seconds since the epoch, and what it is of."""

    time: float
    source: str
    sample: Sample


def read_json_recording(text: bytes, source: str, assumed: Assumed) -> tuple[Recorded, ...]:
    """The samples of a JSON document `{"observations": [...]}`.

    Raises:
        InputError: it is no such document; every problem found.

    """
    document = parse_json(text, source)
    kept = read(Recording, document, unknown=UnknownKeys.IGNORE, source=source)
    problems: list[Problem] = []
    times = [
        _time(one.time, f"observations[{place}].time", problems)
        for place, one in enumerate(kept.observations)
    ]
    if problems:
        raise InputError(problems, source)
    return _recorded(list(zip(times, kept.observations, strict=True)), assumed)


def read_csv_recording(text: str, source: str, assumed: Assumed) -> tuple[Recorded, ...]:
    """The samples of a CSV table with the names above as columns; rows without time follow on.

    Raises:
        InputError: a needed column is missing, or a cell is no number; every problem found.

    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), restkey="beyond the header")
    columns = {
        name: NAMES.get(name.strip().lower(), name.strip().lower())
        for name in rows.fieldnames or ()
    }
    missing = [name for name in NEEDED if name not in columns.values()]
    if missing:
        rule = f"must name the columns {', '.join(missing)}"
        raise InputError([Problem("line 1", rule)], source)
    problems: list[Problem] = []
    found = []
    for number, row in enumerate(rows):
        line = f"line {rows.line_num}"
        named = {columns[name]: cell for name, cell in row.items() if name in columns}
        time = named.pop("time", None)
        at = number * (assumed.interval_s or 60.0) if not time else _time(time, line, problems)
        found.append((at, _of_cells(named, line, assumed, problems)))
    if problems:
        raise InputError(problems, source)
    return _recorded(found, assumed)


def _of_cells(
    cells: Mapping[str, str | None], line: str, assumed: Assumed, problems: list[Problem]
) -> RecordedObservation:
    values: dict[str, Any] = {}
    for name in RecordedObservation.model_fields:
        text = (cells.get(name) or "").strip()
        if name in ("time", "model", "accelerator", "replica"):
            values[name] = text
        elif text:
            try:
                values[name] = float(text)
            except ValueError:
                problems.append(Problem(f"{line}, {name}", "must be a number", text))
    values["model"] = values["model"] or assumed.model
    values["accelerator"] = values["accelerator"] or assumed.accelerator
    return RecordedObservation.model_validate(values)


def _recorded(
    found: list[tuple[float, RecordedObservation]], assumed: Assumed
) -> tuple[Recorded, ...]:
    interval_s = assumed.interval_s or _interval_s(time for time, _ in found)
    return tuple(
        Recorded(
            time,
            str(one.replica),
            Sample((one.model, one.accelerator), _found(time, one, assumed, interval_s)),
        )
        for time, one in _in_order(found)
    )


def _in_order(
    found: list[tuple[float, RecordedObservation]],
) -> Iterator[tuple[float, RecordedObservation]]:
    times = [time for time, _ in found]
    falls = len(set(times)) > 1 and times == sorted(times, reverse=True)
    of_replica: dict[tuple[str, str, str], list[tuple[float, RecordedObservation]]] = {}
    for time, one in reversed(found) if falls else found:
        key = (one.model, one.accelerator, str(one.replica))
        of_replica.setdefault(key, []).append((time, one))
    return heapq.merge(*of_replica.values(), key=lambda each: each[0])


def _interval_s(times: Iterator[float]) -> float:
    known = sorted(set(times))
    gaps = [after - before for before, after in pairwise(known)]
    return max(median(gaps), LEAST_INTERVAL_S) if gaps else 60.0


def _found(
    time: float, one: RecordedObservation, assumed: Assumed, interval_s: float
) -> Measurement | Rejection:
    max_batch = assumed.max_batch if one.max_batch is None else one.max_batch
    tokens_in = assumed.input_tokens if one.input_tokens is None else one.input_tokens
    needed = (one.arrival_rate_rpm, one.output_tokens, one.itl_ms, tokens_in)
    if max_batch is None:
        return Rejection.BATCH_UNKNOWN
    if any(value is None for value in needed):
        return Rejection.MISSING
    if not math.isfinite(max_batch):
        return Rejection.NOT_FINITE
    rate_rps = rps_from_rpm(one.arrival_rate_rpm or 0.0)
    return Measurement(
        time=time,
        rate_rps=rate_rps,
        input_tokens=tokens_in or 0.0,
        output_tokens=one.output_tokens or 0.0,
        max_batch=int(max_batch),
        itl_ms=one.itl_ms or 0.0,
        ttft_ms=one.ttft_ms,
        requests=rate_rps * interval_s if one.requests is None else one.requests,
        throughput_rps=None if one.throughput_rpm is None else rps_from_rpm(one.throughput_rpm),
        running=one.running,
        queue_seen=one.waiting is not None and one.waiting > 1,
        source=str(one.replica),
    )


def _time(value: str | float, where: str, problems: list[Problem]) -> float:
    """Seconds since the epoch; a time without a zone is UTC."""
    with suppress(ValueError):
        seconds = float(value)
        if math.isfinite(seconds):
            return seconds
    try:
        moment = datetime.fromisoformat(str(value).strip().replace("/", "-"))
    except ValueError:
        problems.append(
            Problem(where, "must be a time: seconds, or 2026-04-21 11:35:03", str(value))
        )
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
