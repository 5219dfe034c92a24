"""Requests from a trace: a CSV file with a time, input tokens and output tokens.

Read as a stream, so that a trace may be longer than memory. Times are timestamps or seconds;
timestamps, and seconds of the Unix epoch, count from the first request. The header names the
columns, in any of the usual spellings (`COLUMNS`); other columns are passed over. A name in .gz is
unpacked as it is read.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

import numpy as np

from controlloop.errors import InputError, Problem
from controlloop.simulator.workloads.requests import BufferedStream, Requests

BLOCK: Final = 4096
# Copies made at once, about; few requests of a block where each is copied often.
COPIES: Final = 1 << 18
# A request copied more often than this says nothing of how a load comes.
MOST_REPLICATION: Final = 1e5
# A first request so late is counted in seconds of the epoch (from 1973 on), not of the trace.
EPOCH_FROM_S: Final = 1e8
# No time in seconds is as late; those in milliseconds are.
LATEST_S: Final = 1e11
# After so many problems the rest of a file is not read for more.
MOST_PROBLEMS: Final = 20

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "time": ("timestamp", "time", "times", "arrivals", "arrivaltime", "arrivaltimes"),
        "input tokens": ("contexttokens", "inputtokens", "prompttokens", "tokensin"),
        "output tokens": ("generatedtokens", "outputtokens", "completiontokens", "tokensout"),
    }
)


class TraceError(InputError):
    """A trace that cannot be used; carries every problem found, with its line."""


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What is in a trace: `requests` from 0 to `duration_s`, and their mean tokens."""

    requests: int
    duration_s: float
    mean_input_tokens: float
    mean_output_tokens: float

    @property
    def mean_rate_rps(self) -> float:
        """Requests/s over the whole of it."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0

    def replication_to(self, rate_rps: float, path: Path) -> float:
        """Copies of each request that make its mean rate `rate_rps`.

        Raises:
            TraceError: it has no rate, or one so low that a few requests would be the whole load.

        """
        if self.mean_rate_rps <= 0:
            rule = "all its requests come at once: it has no rate that could be scaled"
            raise TraceError([Problem("", rule)], str(path))
        replication = rate_rps / self.mean_rate_rps
        if replication > MOST_REPLICATION:
            rule = (
                f"{self.requests} requests in {self.duration_s:g} s are too few: a load of "
                f"{rate_rps:.3g} requests/s takes more than {MOST_REPLICATION:g} copies of each"
            )
            raise TraceError([Problem("", rule)], str(path))
        return replication


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, or a part of it, as it is or multiplied.

    Attributes:
        path: the file.
        replication: copies of each request; a fraction is a chance, so 0.5 keeps half.
        jitter_s: copies are moved by up to so much, either way, so that they do not come at
            once; 0 leaves every copy at the request's own time.
        start_s: where the part begins; it becomes time 0.
        end_s: where it ends.

    """

    path: Path
    replication: float = 1.0
    jitter_s: float = 0.0
    start_s: float = 0.0
    end_s: float = np.inf

    def open(self, seed: np.random.SeedSequence) -> BufferedStream:
        """The requests of one course of chance, which copies and jitter alone depend on.

        Raises:
            TraceError: the header is bad; a bad line raises when it is reached.

        """
        return BufferedStream(_Copies(self, np.random.default_rng(seed)))

    def summary(self) -> TraceSummary:
        """Read it once, in constant memory: what is in the part, before replication.

        Raises:
            TraceError: every problem of the file (the first `MOST_PROBLEMS`), with its line.

        """
        requests = inputs = outputs = 0
        last = self.start_s
        for block in _part(self):
            requests += len(block)
            inputs += int(np.sum(block.input_tokens))
            outputs += int(np.sum(block.output_tokens))
            last = float(block.times_s[-1]) if len(block) else last
        if not requests:
            rule = f"has no request between {self.start_s:g} s and {self.end_s:g} s"
            raise TraceError([Problem("", rule)], str(self.path))
        end = self.end_s if np.isfinite(self.end_s) else last
        duration_s = end - self.start_s
        return TraceSummary(requests, duration_s, inputs / requests, outputs / requests)


class _Copies:
    """The blocks of a trace, each request copied and moved."""

    def __init__(self, trace: Trace, rng: np.random.Generator) -> None:
        self._trace, self._rng = trace, rng
        most = max(int(COPIES / max(trace.replication, 1.0)), 1)
        self._source = (piece for block in _part(trace) for piece in _pieces(block, most))
        self._held = Requests.none()

    def next_block(self) -> tuple[Requests, float]:
        """The copies that nothing later in the file can come before."""
        trace, block = self._trace, next(self._source, None)
        if block is None:
            return self._held, np.inf
        times = block.times_s - trace.start_s
        base = int(np.floor(trace.replication))
        chance = self._rng.random(len(block)) < trace.replication - base
        rows = np.repeat(np.arange(len(block)), base + chance)
        moved = self._rng.uniform(-trace.jitter_s, trace.jitter_s, len(rows))
        # What would come before the beginning comes as much after it.
        moments = np.abs(times[rows] + moved)
        copies = Requests(moments, block.input_tokens[rows], block.output_tokens[rows])
        together = Requests.joined([self._held, copies])
        together = together.take(np.argsort(together.times_s, kind="stable"))
        # The next request is no earlier than this block's last; its copies by the jitter.
        complete_s = float(times[-1]) - trace.jitter_s
        count = int(np.searchsorted(together.times_s, complete_s, side="left"))
        self._held = together.take(slice(count, None))
        return together.take(slice(0, count)), complete_s


def _pieces(block: Requests, most: int) -> Iterator[Requests]:
    """The block in pieces of at most `most` requests."""
    return (block.take(slice(start, start + most)) for start in range(0, len(block), most))


def _part(trace: Trace) -> Iterator[Requests]:
    """The blocks of the part, none of them empty."""
    for block in _blocks(trace.path):
        if not len(block):
            continue
        inside = (block.times_s >= trace.start_s) & (block.times_s < trace.end_s)
        if np.any(inside):
            yield block.take(inside)
        if block.times_s[-1] >= trace.end_s:
            return


def _blocks(path: Path) -> Iterator[Requests]:
    """The whole file, checked, in blocks; one of blank lines is empty."""
    try:
        with _open(path) as stream:
            rows = csv.reader(stream)
            parser = _Parser(path, next(rows, []))
            while lines := list(islice(rows, BLOCK)):
                yield parser.parse(lines, rows.line_num)
            parser.finish()
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError([Problem("", f"cannot be read: {error}")], str(path)) from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


class _Parser:
    """Turns lines into requests, and collects what is wrong with them."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._path = path
        self._problems: list[Problem] = []
        self._columns = self._find(header)
        self._first: datetime | None = None
        self._epoch_s: float | None = None
        self._last_s = -np.inf
        self._count = 0

    def parse(self, lines: Sequence[Sequence[str]], last_line: int) -> Requests:
        """The requests of `lines`, of which the last is the file's `last_line`.

        Raises:
            TraceError: a line is bad; later lines of the block are checked too.

        """
        read = []
        for number, line in enumerate(lines, start=last_line - len(lines) + 1):
            if line:
                read.append(self._request(number, line))
        if self._problems:
            raise TraceError(self._problems[:MOST_PROBLEMS], str(self._path))
        self._count += len(read)
        times, inputs, outputs = zip(*read, strict=True) if read else ((), (), ())
        whole = np.int64
        return Requests(np.array(times, float), np.array(inputs, whole), np.array(outputs, whole))

    def finish(self) -> None:
        """The file has ended.

        Raises:
            TraceError: there was no request.

        """
        if not self._count:
            raise TraceError([Problem("", "is empty: a header and no request")], str(self._path))

    def _find(self, header: Sequence[str]) -> tuple[int, int, int]:
        if not header:
            raise TraceError([Problem("", "is empty: not even a header")], str(self._path))
        named = {_plain(name): index for index, name in reversed(list(enumerate(header)))}
        found = {
            what: next((named[name] for name in names if name in named), None)
            for what, names in COLUMNS.items()
        }
        missing = [what for what, index in found.items() if index is None]
        if missing:
            rule = f"the header has no column for {', '.join(missing)}"
            problem = Problem("line 1", rule, ",".join(header) or None)
            raise TraceError([problem], str(self._path))
        time, tokens_in, tokens_out = (index for index in found.values() if index is not None)
        return time, tokens_in, tokens_out

    def _request(self, number: int, line: Sequence[str]) -> tuple[float, int, int]:
        where = f"line {number}"
        if len(line) <= max(self._columns):
            self._say(where, "has too few columns", ",".join(line))
            return 0.0, 0, 1
        time, tokens_in, tokens_out = (line[column] for column in self._columns)
        seconds = self._time(where, time)
        return (
            seconds,
            self._tokens(f"{where}, input tokens", tokens_in, 0),
            self._tokens(f"{where}, output tokens", tokens_out, 1),
        )

    def _time(self, where: str, text: str) -> float:
        seconds = self._seconds(text)
        if seconds is None:
            self._say(f"{where}, time", "must be a timestamp or a number of seconds", text)
            return self._last_s
        if seconds > LATEST_S:
            self._say(f"{where}, time", f"must be in seconds, at most {LATEST_S:g}", text)
            return self._last_s
        if seconds < self._last_s:
            self._say(f"{where}, time", "must not be before the line above", text)
            return self._last_s
        if seconds < 0:
            self._say(f"{where}, time", "must be >= 0", text)
        self._last_s = seconds
        return seconds

    def _seconds(self, text: str) -> float | None:
        try:
            seconds = float(text)
        except ValueError:
            pass
        else:
            return self._since_start(seconds) if np.isfinite(seconds) else None
        try:
            moment = datetime.fromisoformat(text.strip())
            if self._first is None:
                self._first = moment
            return (moment - self._first).total_seconds()
        except (ValueError, TypeError):
            return None

    def _since_start(self, seconds: float) -> float:
        if self._epoch_s is None:
            self._epoch_s = seconds if EPOCH_FROM_S <= seconds <= LATEST_S else 0.0
        return seconds - self._epoch_s

    def _tokens(self, where: str, text: str, least: int) -> int:
        try:
            tokens = float(text)
            whole = int(tokens)
        except (ValueError, OverflowError):
            self._say(where, "must be a whole number", text)
            return least
        if whole != tokens:
            self._say(where, "must be a whole number", text)
        # An answer of no token is one that was cut off at once: its first token still counts.
        if whole < 0:
            self._say(where, "must be >= 0", text)
        return max(whole, least)

    def _say(self, path: str, rule: str, value: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(path, rule, value))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
