"""Prompts within iterations, in chunks under the token budget: `TOKENS` and `ROOFLINE`.

The iteration that computes the last of a prompt gives the first token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.compiled import compiled
from controlloop.simulator.engine.batch import (
    NONE,
    factor,
    leave_done,
    make_room,
    next_in,
    note_empty,
    token_of_prompt,
)
from controlloop.simulator.engine.layout import NEVER, Mapping, Numbers, Records

ROOFLINE = int(Mapping.ROOFLINE)


@compiled
def _compute_chunk(one: Any, request: Any, budget: int) -> Any:
    """Compute of a prompt what the budget allows: tokens computed, and tokens read for it."""
    context = request.input_tokens + request.emitted
    chunk = min(request.left, budget)
    request.left -= chunk
    one.held += chunk
    return chunk, context - request.left


@compiled
def begin_with_prompts(
    one: Any, slots: IntArray, requests: Records, numbers: Numbers, noise: FloatArray, now: float
) -> None:
    """Begin an iteration: a token for all that decode, and prompts as the budget allows."""
    preempted = make_room(one, slots, requests, numbers, now)
    budget = max(numbers.token_budget - one.decoding, 0)
    tokens = 0
    read = 0
    for index in range(one.decoding, one.running):
        chunk, seen = _compute_chunk(one, requests[slots[0, index]], budget)
        budget, tokens, read = budget - chunk, tokens + chunk, read + seen
    while budget > 0 and not preempted:
        row = next_in(one, slots, requests, numbers, now)
        if row == NONE:
            break
        chunk, seen = _compute_chunk(one, requests[row], budget)
        budget, tokens, read = budget - chunk, tokens + chunk, read + seen
    if one.running == 0:
        one.ends_s = NEVER
        note_empty(one, now)
        return
    computed = numbers.token_s * (one.decoding + tokens)
    if numbers.mapping == ROOFLINE:
        seconds = (
            np.sqrt(numbers.fixed_s**2 + computed**2)
            + numbers.sequence_s * one.decoding
            + numbers.context_s * one.resident
        )
    else:
        seconds = numbers.fixed_s + computed + numbers.context_s * (one.resident + read)
    one.begun_s = now
    one.ends_s = now + seconds * factor(one, noise)


@compiled
def finish_prompts(
    one: Any, slots: IntArray, requests: Records, numbers: Numbers, now: float
) -> None:
    """Those whose prompts the iteration completed have a token and decode from now on."""
    finished = False
    while one.decoding < one.running and requests[slots[0, one.decoding]].left == 0:
        request = requests[slots[0, one.decoding]]
        context = request.input_tokens + request.emitted
        one.held -= context
        one.resident += context
        token_of_prompt(one, request, numbers, now)
        end = one.iteration + request.output_tokens - request.emitted
        slots[1, one.decoding] = end
        one.next_end = min(one.next_end, end)
        finished = finished or end == one.iteration
        one.decoding += 1
    if finished:
        leave_done(one, slots, requests, now)
