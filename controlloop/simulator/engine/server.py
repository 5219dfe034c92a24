"""The engines of one server as one object: replicas come, take requests, drain and go.

engines = ServerEngines(engine_numbers("state-dependent", (19, 1, 120, 0.05), 32), seed=1)
engines.add(0.0)
engines.advance(stream.take(60.0), 60.0)
engines.results().ttft_ms
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.simulator.engine.kernel import serve
from controlloop.simulator.engine.layout import (
    COUNTS,
    NEVER,
    NOBODY,
    REPLICA,
    REQUEST,
    ROUTING,
    Counts,
    Numbers,
    Records,
    Router,
    State,
)
from controlloop.simulator.workloads.requests import Requests
from controlloop.units import ms_from_s

FEWEST: Final = 64
_EMPTY: Final = int(State.EMPTY)
_SERVING: Final = int(State.SERVING)


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What became of n requests, in order of arrival; every array is (n,).

    Attributes:
        arrival_s: when they came, on the simulated clock.
        input_tokens: their prompts.
        output_tokens: what they asked for.
        ttft_ms: time to first token; infinite where there has been none.
        itl_ms: mean time between two tokens of a request that is done; 0 for answers of one
            token, infinite for those that are not done.
        done_s: when the last token came; infinite where it has not.
        lost: whether the request will never be answered: its replica died or refused it.

    """

    arrival_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    done_s: FloatArray
    lost: BoolArray

    def __len__(self) -> int:
        return len(self.arrival_s)


class ServerEngines:
    """All replicas of one server.

    Args:
        numbers: the engine of each.
        noise: factors of an iteration's time; see `times.noise_factors`.
        router: how requests find a replica.
        seed: where chance comes from.

    """

    def __init__(
        self,
        numbers: Numbers,
        noise: FloatArray,
        router: Router = Router.LEAST_LOADED,
        seed: np.random.SeedSequence | None = None,
    ) -> None:
        self._numbers = numbers
        self._noise = noise
        self._router = int(router)
        self._seed = seed or np.random.SeedSequence(0)
        self._replicas: Records = np.zeros(0, REPLICA)
        self._slots: IntArray = np.zeros((0, 2, numbers.max_batch), np.int64)
        self._requests: Records = np.zeros(FEWEST, REQUEST)
        self._count = 0
        self._lost: BoolArray = np.zeros(FEWEST, np.bool_)
        self._routing: Records = np.zeros(1, ROUTING)
        self._routing["chance"] = self._bits()
        # Those that no replica was there to take, in order.
        self._outside: IntArray = np.zeros(0, np.int64)
        self._gone = np.zeros(len(Counts._fields))
        self.time = 0.0

    @property
    def running(self) -> int:
        """Requests in a batch."""
        return int(self._replicas["running"].sum())

    @property
    def waiting(self) -> int:
        """Requests in the replicas' queues, and those that no replica was there to take."""
        return int(self._replicas["waiting"].sum()) + len(self._outside)

    def counts(self) -> Counts:
        """The counters of every replica there ever was, added up."""
        totals = self._gone + _counters(self._replicas).sum(axis=0)
        return Counts(*totals.tolist())

    def replica(self, row: int) -> tuple[Counts, int, int]:
        """One replica: its counters, and the requests in its batch and in its queue."""
        one = self._replicas[row]
        counts = Counts(*_counters(self._replicas)[row].tolist())
        return counts, int(one["running"]), int(one["waiting"])

    def add(self, now: float) -> int:
        """A new replica that takes requests from `now` on; its row."""
        free = np.flatnonzero(self._replicas["state"] == _EMPTY)
        if len(free):
            row = int(free[0])
        else:
            row = len(self._replicas)
            more = max(row, 8)
            self._replicas = np.concatenate([self._replicas, np.zeros(more, REPLICA)])
            unused = np.full((more, 2, self._numbers.max_batch), NOBODY, np.int64)
            self._slots = np.concatenate([self._slots, unused])
        self._replicas[row] = np.zeros(1, REPLICA)[0]
        one = self._replicas[row : row + 1]
        one["state"], one["started_s"] = State.SERVING, now
        one["ends_s"] = one["timer_s"] = NEVER
        one["next_end"] = np.iinfo(np.int64).max
        one["head"] = one["tail"] = NOBODY
        one["empty_s"] = now
        one["chance"] = self._bits()
        return row

    def drain(self, row: int) -> None:
        """Send the replica no more requests; it finishes those that it has."""
        self._replicas["state"][row] = State.DRAINING

    def is_empty(self, row: int) -> bool:
        """Whether the replica has no request."""
        one = self._replicas[row]
        return bool(one["running"] == 0 and one["waiting"] == 0)

    def remove(self, row: int) -> int:
        """The replica is gone, and every request in it with it; how many those were."""
        mine = self._requests[: self._count]
        within = (mine["replica"] == row) & np.isnan(mine["done_s"]) & ~self._lost[: self._count]
        self._lost[: self._count] |= within
        self._gone += _counters(self._replicas)[row]
        self._replicas[row] = np.zeros(1, REPLICA)[0]
        return int(np.sum(within & ~mine["refused"]))

    def advance(self, requests: Requests, until: float) -> None:
        """Let `requests` in, none of which comes before the last `until`, and go on to `until`."""
        ids = np.concatenate([self._outside, self._admit(requests)])
        rows = np.flatnonzero(self._replicas["state"] == _SERVING)
        self._outside = ids if not len(rows) else ids[:0]
        serve(
            self._replicas,
            self._slots,
            self._requests,
            self._numbers,
            self._noise,
            self._routing,
            self._router,
            rows,
            ids if len(rows) else ids[:0],
            self.time,
            until,
        )
        self.time = until

    def results(self) -> Results:
        """What has become so far of every request that is kept."""
        return _results(self._requests[: self._count], self._lost[: self._count])

    def forget(self) -> Results:
        """The results of requests that are over, which are then kept no longer."""
        mine, lost = self._requests[: self._count], self._lost[: self._count]
        over = ~np.isnan(mine["done_s"]) | lost | mine["refused"]
        results = _results(mine[over], lost[over])
        self._keep(np.flatnonzero(~over))
        return results

    def _bits(self) -> int:
        return int(self._seed.spawn(1)[0].generate_state(1, np.uint64)[0])

    def _admit(self, requests: Requests) -> IntArray:
        start, end = self._count, self._count + len(requests)
        if end > len(self._requests):
            larger = np.zeros(2 * end, REQUEST)
            larger[:start] = self._requests[:start]
            lost = np.zeros(2 * end, np.bool_)
            lost[:start] = self._lost[:start]
            self._requests, self._lost = larger, lost
        new = self._requests[start:end]
        new[:] = _FRESH
        new["arrival_s"] = requests.times_s
        new["input_tokens"] = new["left"] = requests.input_tokens
        new["output_tokens"] = requests.output_tokens
        self._count = end
        return np.arange(start, end)

    def _keep(self, rows: IntArray) -> None:
        """Only the requests at `rows` stay, at new places."""
        place = np.full(self._count + 1, NOBODY, np.int64)
        place[rows] = np.arange(len(rows))
        kept = self._requests[rows]
        # Place -1, that of NOBODY, is the last one of `place` and stays NOBODY.
        kept["behind"] = place[kept["behind"]]
        self._slots[:, 0] = place[np.clip(self._slots[:, 0], NOBODY, self._count)]
        for end in ("head", "tail"):
            self._replicas[end] = place[np.clip(self._replicas[end], NOBODY, self._count)]
        self._outside = place[self._outside]
        self._requests[: len(rows)] = kept
        self._lost[: self._count] = False
        self._count = len(rows)


def _fresh() -> Records:
    """A request that nothing has happened to."""
    one = np.zeros(1, REQUEST)
    one["replica"] = one["behind"] = NOBODY
    for field in ("admitted_s", "first_s", "done_s"):
        one[field] = np.nan
    return one


_FRESH: Final = _fresh()


def _counters(replicas: Records) -> FloatArray:
    """The counters as an array over the records' memory, last in each: (R, counters)."""
    octets = replicas.view(np.uint8).reshape(len(replicas), replicas.itemsize)
    return octets[:, -COUNTS.itemsize :].view(np.float64)


def _results(requests: Records, lost: BoolArray) -> Results:
    first_s, done_s = requests["first_s"], requests["done_s"]
    done, begun = ~np.isnan(done_s), ~np.isnan(first_s)
    gaps = requests["output_tokens"] - 1
    itl_s = np.where(gaps > 0, (done_s - first_s) / np.maximum(gaps, 1), 0.0)
    ttft_s = first_s + requests["outside_s"] - requests["arrival_s"]
    return Results(
        arrival_s=requests["arrival_s"].copy(),
        input_tokens=requests["input_tokens"].copy(),
        output_tokens=requests["output_tokens"].copy(),
        ttft_ms=np.where(begun, ms_from_s(1.0) * ttft_s, np.inf),
        itl_ms=np.where(done, ms_from_s(1.0) * itl_s, np.inf),
        done_s=np.where(done, done_s, np.inf),
        lost=lost | requests["refused"],
    )
