"""The continuous batch of one engine: who joins, leaves and is preempted.

Who is done leaves; the last admitted are preempted while the cache has no room for the next
tokens: they go to the front of the queue and are recomputed. Waiting requests enter in their
order while there are places and cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.compiled import compiled
from controlloop.simulator.engine.layout import Numbers, Records

NO_END = 1 << 60
NONE = -1
# SplitMix64 (Steele, Lea, Flood 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled
def random_bits(holder: Any) -> Any:
    """The next 64 random bits of `holder.chance`."""
    holder.chance = holder.chance + _STEP
    bits = holder.chance
    bits = (bits ^ (bits >> _S30)) * _MIX_1
    bits = (bits ^ (bits >> _S27)) * _MIX_2
    return bits ^ (bits >> _S31)


@compiled
def factor(one: Any, noise: FloatArray) -> float:
    """The next factor of noise; a table of one entry is none."""
    if len(noise) == 1:
        return noise[0]  # type: ignore[no-any-return]  # float64 is float to the compiler
    return noise[random_bits(one) % np.uint64(len(noise))]  # type: ignore[no-any-return]  # likewise


@compiled
def complete(one: Any, request: Any, now: float) -> None:
    """Count a request that has its last token."""
    request.done_s = now
    one.counts.completed += 1
    one.counts.input_tokens += request.input_tokens
    one.counts.output_tokens += request.output_tokens
    one.counts.stayed_s += now - request.arrival_s
    one.counts.done_ttft_s += request.first_s + request.outside_s - request.arrival_s
    if request.output_tokens > 1:
        one.counts.itl_s += (now - request.first_s) / (request.output_tokens - 1)


@compiled
def token_of_prompt(one: Any, request: Any, numbers: Numbers, now: float) -> None:
    """A prompt is computed: the first token, or the next one after a preemption."""
    if request.emitted == 0:
        request.first_s = now
        request.outside_s = numbers.request_s + numbers.stream_s * one.decoding
        one.counts.first_tokens += 1
        one.counts.ttft_s += now + request.outside_s - request.arrival_s
        one.counts.queued_s += request.admitted_s - request.arrival_s
    else:
        one.counts.gaps += 1
        one.counts.gaps_s += now - request.stopped_s
    request.emitted += 1


@compiled
def leave_done(one: Any, slots: IntArray, requests: Records, now: float) -> None:
    """Those whose last iteration this was leave; the others close up, in order."""
    iteration = one.iteration
    running = one.running
    decoding = one.decoding
    kept = 0
    nearest = NO_END
    for index in range(decoding):
        row, end = slots[0, index], slots[1, index]
        if end <= iteration:
            request = requests[row]
            one.resident -= request.input_tokens + request.output_tokens - 1
            complete(one, request, now)
        else:
            nearest = min(nearest, end)
            slots[0, kept], slots[1, kept] = row, end
            kept += 1
    one.decoding = kept
    one.next_end = nearest
    for index in range(decoding, running):
        slots[0, kept] = slots[0, index]
        kept += 1
    one.running = kept


@compiled
def _preempt_last(one: Any, slots: IntArray, requests: Records, now: float) -> None:
    """The last admitted goes back to the front of the queue, to be computed anew."""
    row = slots[0, one.running - 1]
    request = requests[row]
    if one.running <= one.decoding:
        left = slots[1, one.running - 1] - one.iteration
        request.emitted = request.output_tokens - left
        one.resident -= request.input_tokens + request.emitted - 1
        one.decoding -= 1
        request.stopped_s = now
        nearest = NO_END
        for index in range(one.decoding):
            nearest = min(nearest, slots[1, index])
        one.next_end = nearest
    else:
        one.held -= request.input_tokens + request.emitted - request.left
    one.running -= 1
    request.left = request.input_tokens + request.emitted
    request.preemptions += 1
    one.counts.preemptions += 1
    request.behind = one.head
    one.head = row
    if one.waiting == 0:
        one.tail = row
    one.waiting += 1


@compiled
def make_room(one: Any, slots: IntArray, requests: Records, numbers: Numbers, now: float) -> bool:
    """Preempt until the cache has room for the next tokens; whether anybody was."""
    preempted = False
    while one.running > 1 and one.resident + one.held + one.decoding > numbers.kv_tokens:
        _preempt_last(one, slots, requests, now)
        preempted = True
    return preempted


@compiled
def next_in(one: Any, slots: IntArray, requests: Records, numbers: Numbers, now: float) -> int:
    """Give the first in the queue a place; its row, or NONE where there is no room for it."""
    while one.waiting > 0 and one.running < numbers.max_batch:
        row = one.head
        request = requests[row]
        fits = one.resident + one.held + one.decoding + request.left <= numbers.kv_tokens
        if not fits and one.running > 0:
            return NONE
        one.head = request.behind
        one.waiting -= 1
        if not fits and request.left > numbers.kv_tokens:
            request.refused = True
            one.counts.refused += 1
            continue
        slots[0, one.running] = row
        one.running += 1
        if np.isnan(request.admitted_s):
            request.admitted_s = now
        return row  # type: ignore[no-any-return]  # int64 is int to the compiler
    return NONE


@compiled
def note_empty(one: Any, now: float) -> None:
    """Keep since when the replica has had nothing to do."""
    if one.running == 0 and one.waiting == 0:
        one.empty_s = min(one.empty_s, now)
