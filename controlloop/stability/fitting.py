"""The last check: decisions together take no more cards than there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Action, Decision
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.system import LOWEST_PRIORITY, System
from controlloop.stability.reasons import explain_hold

_GROWTH = (Action.SCALE_UP, Action.SWITCH)


def within_capacity(decisions: tuple[Decision, ...], system: System) -> tuple[Decision, ...]:
    """The decisions, without growth that would not fit.

    A solver within its bounds leaves nothing to do here; one that takes cards from a server which
    a hold keeps as it is would. Growth of the lowest priority goes first. What runs is nobody's
    growth: where more runs than there are cards, it stays.

    Args:
        decisions: one a server.
        system: with the cards there are.

    """
    counter = CardCounter(system)
    models = {each.name: each.model for each in system.servers}
    priorities = {each.name: each.priority for each in system.classes}
    priority_of = {
        each.name: priorities.get(each.service_class, LOWEST_PRIORITY) for each in system.servers
    }
    result = {each.server: each for each in decisions}
    taken: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for each in decisions:
        taken += counter.of(models[each.server], each.desired)
        before += counter.of(models[each.server], each.current)

    def is_short(card_type: str) -> bool:
        return taken[card_type] > max(system.capacity.get(card_type, 0), before[card_type])

    growing = [each for each in decisions if each.action in _GROWTH]
    growing.sort(key=lambda each: (-priority_of[each.server], each.server))
    # A switch that is undone needs its old cards again: look until nothing more is undone.
    undone = True
    while undone:
        undone = False
        for each in growing:
            if result[each.server] is not each:
                continue
            now = counter.of(models[each.server], each.current)
            then = counter.of(models[each.server], each.desired)
            crowded = [kind for kind in then if then[kind] > now[kind] and is_short(kind)]
            if crowded:
                result[each.server] = _undone(each, crowded[0])
                taken = taken - then + now
                undone = True
    return tuple(result[each.server] for each in decisions)


def _undone(decision: Decision, card_type: str) -> Decision:
    detail = f"the cards of type {card_type} are not enough for {decision.desired.replicas}"
    hold = Hold(HoldReason.NO_CAPACITY, Forbids.INCREASE, detail)
    return replace(
        decision,
        action=Action.HOLD,
        desired=decision.current,
        reason=explain_hold(decision.current, (hold,)),
        holds=(*decision.holds, hold),
        makes_room_for=(),
    )
