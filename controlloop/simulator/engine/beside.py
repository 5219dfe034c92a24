"""Prompts beside iterations: `BESIDE`.

A prompt takes a time of its own from the moment it gets its place; its request decodes from the
nearest iteration on.
"""

from __future__ import annotations

from typing import Any

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.compiled import compiled
from controlloop.simulator.engine.batch import (
    NONE,
    complete,
    factor,
    next_in,
    note_empty,
    token_of_prompt,
)
from controlloop.simulator.engine.layout import NEVER, Numbers, Records


@compiled
def admit_beside(
    one: Any, slots: IntArray, requests: Records, numbers: Numbers, noise: FloatArray, now: float
) -> None:
    """Waiting requests take free places and begin their prompts."""
    row = next_in(one, slots, requests, numbers, now)
    while row != NONE:
        request = requests[row]
        seconds = 0.0
        if request.left > 0:
            in_service = numbers.in_service if numbers.in_service > 0 else one.running
            seconds = numbers.prefill_s + numbers.prompt_token_s * request.left * in_service
        one.held += request.left
        request.left = 0
        request.due_s = now + seconds * factor(one, noise)
        one.timer_s = min(one.timer_s, request.due_s)
        row = next_in(one, slots, requests, numbers, now)
    note_empty(one, now)


@compiled
def begin_beside(one: Any, numbers: Numbers, noise: FloatArray, now: float) -> None:
    """Begin an iteration of those that decode, if any."""
    if one.decoding == 0:
        one.ends_s = NEVER
        return
    in_service = numbers.in_service if numbers.in_service > 0 else one.running
    seconds = numbers.fixed_s + numbers.sequence_s * in_service
    one.begun_s = now
    one.late = 0
    one.ends_s = now + seconds * factor(one, noise)


@compiled
def next_due(one: Any, slots: IntArray, requests: Records) -> float:
    """When the next prompt is done."""
    nearest = NEVER
    for index in range(one.decoding, one.running):
        nearest = min(nearest, requests[slots[0, index]].due_s)
    return nearest


@compiled
def prompts_due(
    one: Any, slots: IntArray, requests: Records, numbers: Numbers, noise: FloatArray
) -> None:
    """The prompt that is done next: its request has a token and joins the nearest iteration."""
    now = one.timer_s
    found = one.decoding
    for index in range(one.decoding, one.running):
        due = requests[slots[0, index]].due_s
        if due <= now:
            found = index
    row = slots[0, found]
    slots[0, found] = slots[0, one.decoding]
    slots[0, one.decoding] = row
    request = requests[row]
    context = request.input_tokens + request.emitted
    one.held -= context
    token_of_prompt(one, request, numbers, now)
    one.decoding += 1
    one.timer_s = next_due(one, slots, requests)
    if request.emitted == request.output_tokens:
        # One token was all: its place is free at once.
        one.decoding -= 1
        for index in range(one.decoding, one.running - 1):
            slots[0, index] = slots[0, index + 1]
        one.running -= 1
        complete(one, request, now)
        admit_beside(one, slots, requests, numbers, noise, now)
        return
    one.resident += context
    end = one.iteration + request.output_tokens - request.emitted
    under_way = one.ends_s < NEVER
    if under_way and now - one.begun_s > one.ends_s - now:
        end += 1
        one.resident -= 1
        one.late += 1
    slots[1, one.decoding - 1] = end
    one.next_end = min(one.next_end, end)
    if not under_way:
        begin_beside(one, numbers, noise, now)
