"""What kept a server from something better."""

from __future__ import annotations

import math
from collections.abc import Iterator

from controlloop.api.explanation import Binding, Candidate, Explanation, Limit, Option, Standing
from controlloop.api.solution import UnservedReason
from controlloop.optimizer.candidates import RATE_TOLERANCE
from controlloop.optimizer.usage import Holder, Usage, named


def bindings(explanation: Explanation, least: int) -> tuple[Binding, ...]:
    """The limits that kept a server from a candidate of less value, or from any.

    Args:
        explanation: all of it but these.
        least: the fewest replicas that it may have.

    """
    chosen = explanation.chosen
    whole = chosen is not None and explanation.shortfall is None
    value = chosen.value if chosen is not None and whole else None
    mix = explanation.allocation if explanation.shortfall is None and chosen is None else None
    found = []
    for option in explanation.options:
        candidate = option.candidate
        if candidate is None or (value is not None and candidate.value >= value):
            continue
        # The value of a mix is not a sum over candidates: it compares by its cost.
        if mix is not None and candidate.allocation.cost_per_hour >= mix.total_cost_per_hour:
            continue
        if option.limit is not None and (mix is None or option.standing is not Standing.CHOSEN):
            saving = None if value is None else value - candidate.value
            found.append(Binding(option.limit, option.accelerator, option.reason, saving))
    return (*found, *_of_minimum(explanation, chosen, least), *_of_maximum(explanation))


def without_room(usage: Usage, server: str, priority: int, candidate: Candidate) -> Option:
    """The option whose cards are not to be had, with what stands between."""
    card_type = candidate.card_type
    room = usage.room(server, card_type) or 0
    there = (usage.capacity or {}).get(card_type, 0)
    text = f"needs {candidate.cards} cards of type {card_type}, {room} of {there} are left for it"
    others = usage.others(server, card_type)
    above = [each for each in others if each.priority < priority]
    beside = [each for each in others if each.priority >= priority]
    if above:
        text += f"; of higher priority, {_have(above)}"
    if beside:
        text += f"; of equal or lower priority, {_have(beside)}"
    below = there - sum(each.count for each in above)
    limit = Limit.PRIORITY if below < candidate.cards <= there else Limit.CAPACITY
    accelerator = candidate.allocation.accelerator
    return Option(accelerator, Standing.NO_CAPACITY, text, candidate, limit)


def _have(holders: list[Holder]) -> str:
    names = named(each.server for each in holders)
    return f"{names} {'has' if len(holders) == 1 else 'have'} {sum(h.count for h in holders)}"


def _of_minimum(
    explanation: Explanation, chosen: Candidate | None, least: int
) -> Iterator[Binding]:
    if chosen is None or not chosen.rate_rps:
        return
    share = explanation.demand_rps / chosen.rate_rps
    needed = math.ceil(share * (1 - RATE_TOLERANCE))
    if needed < chosen.allocation.replicas == least:
        detail = f"its load needs {needed} replicas, the minimum is {least}"
        yield Binding(Limit.MINIMUM, chosen.allocation.accelerator, detail, None)


def _of_maximum(explanation: Explanation) -> Iterator[Binding]:
    short = explanation.shortfall
    if (
        short is not None
        and short.reason is UnservedReason.AT_MAXIMUM
        and explanation.allocation is not None
    ):
        accelerator = explanation.allocation.accelerator
        yield Binding(Limit.MAXIMUM, accelerator, short.detail, None)
