"""Benchmark files, several as one set of sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from controlloop.api.json_text import parse_json
from controlloop.errors import InputError, Problem
from controlloop.tuner.benchmarks.guidellm import (
    THROUGHPUT,
    Record,
    is_report,
    records_of_report,
)
from controlloop.tuner.benchmarks.table import records_of_table
from controlloop.tuner.sweeps import Sweeps, clients_of, read_sweeps

USUAL_MAX_BATCH: Final = 256
"""Requests in service at most where nobody says it."""

_TABLE: Final = ".csv"


@dataclass(frozen=True, slots=True, eq=False)
class Benchmarks:
    """What benchmark files hold.

    Attributes:
        sweeps: the runs.
        labels: (n) what each run is called: synchronous, constant@4.2, ...
        skipped: runs that were left out, each with its reason.
        max_batch: requests in service at most in the server that was measured.
        max_batch_from: where that number comes from.

    """

    sweeps: Sweeps
    labels: tuple[str, ...]
    skipped: tuple[str, ...]
    max_batch: int
    max_batch_from: str


def read_benchmarks(paths: Sequence[Path], *, max_batch: int | None = None) -> Benchmarks:
    """The runs of all files; runs of equal shape are of one sweep.

    Args:
        paths: CSV by the suffix .csv, else JSON: guidellm's report or reduced sweeps.
        max_batch: requests in service at most in the server that was measured; None takes the
            most clients of a saturated run, or where none is told `USUAL_MAX_BATCH`.

    Raises:
        InputError: every run of every file that cannot be read, or there is none.

    """
    if max_batch is not None and max_batch < 1:
        raise InputError([Problem("--max-batch", "must be >= 1", str(max_batch))])
    problems: list[Problem] = []
    skipped: list[str] = []
    shapes: dict[str, list[Record]] = {}
    for path in paths:
        own: list[Problem] = []
        left_out: list[str] = []
        try:
            found = _records(path, own, left_out)
            if found and not own:
                read_sweeps({"sweeps": found}, max_batch=max_batch or USUAL_MAX_BATCH)
        except InputError as error:
            found = {}
            own += error.problems
        problems += [replace(each, source=str(path)) for each in own]
        skipped += [f"{path}: {each}" for each in left_out]
        for shape, records in found.items():
            shapes.setdefault(shape, []).extend(records)
    if problems:
        raise InputError(problems)
    if not shapes:
        reason = f": {skipped[0]}" if skipped else ""
        raise InputError([Problem("", f"holds no run that can be used{reason}")], str(paths[0]))
    return _together(shapes, skipped, max_batch)


def _together(shapes: dict[str, list[Record]], skipped: list[str], given: int | None) -> Benchmarks:
    records = [record for runs in shapes.values() for record in runs]
    max_batch, where = (given, "as given") if given is not None else _most_clients(records)
    return Benchmarks(
        sweeps=read_sweeps({"sweeps": shapes}, max_batch=max_batch),
        labels=tuple(_label(record) for record in records),
        skipped=tuple(skipped),
        max_batch=max_batch,
        max_batch_from=where,
    )


def _most_clients(records: Sequence[Record]) -> tuple[int, str]:
    told = [clients_of(each) for each in records if each["strategy"] == THROUGHPUT]
    most = max((each for each in told if each is not None), default=None)
    if most is None:
        return USUAL_MAX_BATCH, "a usual value: no run says how many clients it had"
    return most, "the most clients of a saturated run"


def _label(record: Record) -> str:
    kind, _, rate = str(record["strategy"]).partition("@")
    if kind == "constant":
        return f"{kind} {float(rate or record['rate_rps']):.3g}/s"
    return f"{record['clients']:.0f} clients" if "clients" in record else kind


def _records(path: Path, problems: list[Problem], skipped: list[str]) -> dict[str, list[Record]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError([Problem("", "does not exist")]) from None
    except OSError as error:
        raise InputError([Problem("", f"cannot be read: {error.strerror}")]) from error
    if path.suffix.lower() == _TABLE:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError([Problem("", f"is not UTF-8 text: {error.reason}")]) from error
        return records_of_table(text, problems)
    document: Any = parse_json(data)
    if is_report(document):
        return records_of_report(document, problems, skipped)
    if isinstance(document, Mapping) and isinstance(document.get("sweeps"), Mapping):
        return {
            str(shape): list(runs) if isinstance(runs, list) else [runs]
            for shape, runs in document["sweeps"].items()
        }
    rule = 'is no benchmark: neither a guidellm report ("benchmarks") nor sweeps ("sweeps")'
    raise InputError([Problem("", rule)])
