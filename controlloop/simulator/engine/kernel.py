"""The engines of one server, event by event: iterations, prompts, arrivals.

One engine is a continuous batch (`batch`). An iteration gives every decoding sequence a token.
Before the next one begins, who is done has left, the last admitted are preempted while the cache
has no room, and waiting requests enter. Prompts are computed `within` iterations or `beside` them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.compiled import compiled, kept, stamp_of_sources
from controlloop.simulator.engine.batch import NO_END, NONE, leave_done, make_room, random_bits
from controlloop.simulator.engine.beside import admit_beside, begin_beside, next_due, prompts_due
from controlloop.simulator.engine.layout import (
    GLANCE,
    NEVER,
    Mapping,
    Numbers,
    Records,
    Router,
    State,
)
from controlloop.simulator.engine.within import begin_with_prompts, finish_prompts

BESIDE = int(Mapping.BESIDE)
LEAST_LOADED = int(Router.LEAST_LOADED)
POWER_OF_TWO = int(Router.POWER_OF_TWO)
EMPTY = int(State.EMPTY)


@compiled
def _end_iteration(
    one: Any, slots: IntArray, requests: Records, numbers: Numbers, noise: FloatArray
) -> None:
    now = one.ends_s
    seconds = now - one.begun_s
    tokens = one.decoding - one.late
    one.iteration += 1
    one.resident += one.decoding
    one.counts.gaps += tokens
    one.counts.gaps_s += tokens * seconds
    one.counts.busy_s += seconds
    if one.iteration >= one.next_end:
        leave_done(one, slots, requests, now)
    if numbers.mapping == BESIDE:
        if make_room(one, slots, requests, numbers, now):
            one.timer_s = next_due(one, slots, requests)
        admit_beside(one, slots, requests, numbers, noise, now)
        begin_beside(one, numbers, noise, now)
    else:
        finish_prompts(one, slots, requests, numbers, now)
        begin_with_prompts(one, slots, requests, numbers, noise, now)


@compiled
def _advance(
    one: Any,
    slots: IntArray,
    requests: Records,
    numbers: Numbers,
    noise: FloatArray,
    until: float,
) -> None:
    """Every event of one replica up to `until`."""
    while min(one.ends_s, one.timer_s) <= until:
        if one.timer_s < one.ends_s:
            prompts_due(one, slots, requests, numbers, noise)
        elif one.ends_s < NEVER:
            _end_iteration(one, slots, requests, numbers, noise)
        else:
            break


@compiled
def _arrive(
    one: Any,
    slots: IntArray,
    requests: Records,
    numbers: Numbers,
    noise: FloatArray,
    row: int,
    now: float,
) -> None:
    """A request joins the replica's queue, and the batch where it may."""
    requests[row].behind = NONE
    if one.waiting == 0:
        one.head = row
    else:
        requests[one.tail].behind = row
    one.tail = row
    one.waiting += 1
    one.counts.arrived += 1
    one.empty_s = NEVER
    if numbers.mapping == BESIDE:
        if one.waiting == 1:
            admit_beside(one, slots, requests, numbers, noise, now)
    elif one.ends_s == NEVER:
        begin_with_prompts(one, slots, requests, numbers, noise, now)


@compiled
def _catch_up(
    replicas: Records,
    slots: IntArray,
    requests: Records,
    numbers: Numbers,
    noise: FloatArray,
    glance: Records,
    member: int,
    now: float,
) -> None:
    """Every event of one replica up to `now`, and what the router needs to know of it."""
    if glance[member].due_s <= now:
        one = replicas[member]
        _advance(one, slots[member], requests, numbers, noise, now)
        _look(glance[member], one)


@compiled
def _look(seen: Any, one: Any) -> None:
    seen.due_s = min(one.ends_s, one.timer_s)
    seen.load = one.running + one.waiting


@compiled
def _least_loaded(glance: Records, rows: IntArray, turn: int) -> int:
    """The place in `rows` of the least loaded, the first from `turn` on."""
    best = turn
    least = NO_END
    for place in range(turn, len(rows)):
        load = glance[rows[place]].load
        if load < least:
            best, least = place, load
    for place in range(turn):
        load = glance[rows[place]].load
        if load < least:
            best, least = place, load
    return best


@compiled
def _route(
    replicas: Records,
    slots: IntArray,
    requests: Records,
    numbers: Numbers,
    noise: FloatArray,
    glance: Records,
    turns: Any,
    router: int,
    rows: IntArray,
    now: float,
) -> Any:
    """Whose the next request is, of `rows`."""
    place = turns.turn % len(rows)
    if router == LEAST_LOADED:
        for member in rows:
            if glance[member].due_s <= now:
                _catch_up(replicas, slots, requests, numbers, noise, glance, member, now)
        place = _least_loaded(glance, rows, place)
    elif router == POWER_OF_TWO and len(rows) > 1:
        count = np.uint64(len(rows))
        place = np.int64(random_bits(turns) % count)
        other = np.int64(random_bits(turns) % (count - np.uint64(1)))
        other += np.int64(other >= place)
        for member in (rows[place], rows[other]):
            _catch_up(replicas, slots, requests, numbers, noise, glance, member, now)
        if glance[rows[other]].load < glance[rows[place]].load:
            place = other
    turns.turn = place + 1
    return rows[place]


def _kept_for(sources: int) -> Callable[..., None]:
    """`serve`, compiled from these sources: in its closure, they are part of what it is kept by."""

    @kept
    def serve(
        replicas: Records,
        slots: IntArray,
        requests: Records,
        numbers: Numbers,
        noise: FloatArray,
        routing: Records,
        router: int,
        rows: IntArray,
        ids: IntArray,
        since: float,
        until: float,
    ) -> None:
        """Route `ids`, in order of arrival, to the replicas at `rows`, and advance all to `until`.

        Args:
            replicas: (R,) records of `REPLICA`.
            slots: (R, 2, max batch) the requests in each batch, and the iterations that end them.
            requests: records of `REQUEST`, which `ids` and `slots` are positions in.
            numbers: the engine of every one of them.
            noise: factors of an iteration's time, drawn from evenly; of mean 1.
            routing: (1,) record of `ROUTING`.
            router: a `Router`.
            rows: the replicas that take requests; none only where `ids` is empty, too.
            ids: requests that arrive before `until`.
            since: the earliest moment at which any of them can be routed.
            until: the end.

        """
        _ = sources
        # What the router looks at lies close together: it looks at all of them for each request.
        glance = np.empty(len(replicas), GLANCE)
        for member in range(len(replicas)):
            _look(glance[member], replicas[member])
        for row in ids:
            now = max(requests[row].arrival_s, since)
            chosen = _route(
                replicas, slots, requests, numbers, noise, glance, routing[0], router, rows, now
            )
            requests[row].replica = chosen
            one = replicas[chosen]
            _catch_up(replicas, slots, requests, numbers, noise, glance, chosen, now)
            _arrive(one, slots[chosen], requests, numbers, noise, row, now)
            _look(glance[chosen], one)
        for member in range(len(replicas)):
            if replicas[member].state != EMPTY:
                _catch_up(replicas, slots, requests, numbers, noise, glance, member, until)

    return serve


serve = _kept_for(stamp_of_sources(Path(__file__).parent))
