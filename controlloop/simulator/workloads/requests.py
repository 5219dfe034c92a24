"""Requests as they arrive at one server: arrays in order of time, drawn piece by piece.

    workload = Generated(Steady(20.0), lengths=TokenLengths(512, 128, 0.5, 0.5))
    stream = workload.open(np.random.SeedSequence(7))
    first_minute = stream.take(60.0)      # every request before 60 s
    second_minute = stream.take(120.0)    # and on from there

Equal seeds give equal requests, however often and in whatever steps they are taken: a policy
cannot alter what it is judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """n requests of one server in order of arrival; every array is (n,).

    Attributes:
        times_s: arrivals, seconds since the start of the workload, rising.
        input_tokens: tokens of each prompt, >= 0.
        output_tokens: tokens of each answer, >= 1.

    """

    times_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray

    def __len__(self) -> int:
        return len(self.times_s)

    def take(self, rows: IntArray | BoolArray | slice) -> Requests:
        """The requests at `rows`."""
        return Requests(self.times_s[rows], self.input_tokens[rows], self.output_tokens[rows])

    @classmethod
    def none(cls) -> Requests:
        """No request."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(np.zeros(0), whole, whole)

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """`parts` one after the other."""
        if not parts:
            return cls.none()
        return cls(
            np.concatenate([part.times_s for part in parts]),
            np.concatenate([part.input_tokens for part in parts]),
            np.concatenate([part.output_tokens for part in parts]),
        )


class RequestStream(Protocol):
    """The requests of one server, handed out once each."""

    def take(self, until_s: float) -> Requests:
        """Those that arrive before `until_s` and were not taken yet; `until_s` never falls."""
        ...


class Workload(Protocol):
    """Where the requests of one server come from; it may be opened any number of times."""

    def open(self, seed: np.random.SeedSequence) -> RequestStream:
        """The requests of one course of chance, from the start."""
        ...


class BufferedStream:
    """A stream over `next_block`, which gives requests in order, block by block.

    A block comes with the time up to which it is complete; infinite ends the stream.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._ready = Requests.none()
        self._complete_to_s = -np.inf

    def take(self, until_s: float) -> Requests:
        """Those before `until_s` that were not taken yet."""
        parts = [self._ready]
        while self._complete_to_s < until_s:
            block, self._complete_to_s = self._blocks.next_block()
            parts.append(block)
        ready = Requests.joined(parts)
        count = int(np.searchsorted(ready.times_s, until_s, side="left"))
        self._ready = ready.take(slice(count, None))
        return ready.take(slice(0, count))


class Blocks(Protocol):
    """Requests in order, in blocks of whatever size suits their source."""

    def next_block(self) -> tuple[Requests, float]:
        """The next ones, and the time in s before which nothing more will come."""
        ...


def whole(values: FloatArray, rng: np.random.Generator, least: int) -> IntArray:
    """`values` as whole numbers >= `least`, rounded by chance so that their mean stays."""
    rounded = np.floor(values + rng.random(len(values)))
    return np.maximum(rounded, least).astype(np.int64)
