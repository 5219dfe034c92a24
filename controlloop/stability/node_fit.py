"""Growth that finds no node is not decided: it would only wait there, and be counted on."""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.cards import CardCounter, Cards
from controlloop.api.decision import Action, Decision, Problem
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.placing import Ask, Room, place
from controlloop.api.system import LOWEST_PRIORITY
from controlloop.stability.reasons import explain_hold


def within_nodes(decisions: tuple[Decision, ...], problem: Problem) -> tuple[Decision, ...]:
    """The decisions, each without the growth that finds no node; nothing that runs is touched.

    A switch is made whole or not at all. What is cut short has the latencies observed now, since
    those predicted were of more replicas.
    """
    room = problem.room
    if room is None:
        return decisions
    fit = _Fit(problem, room)
    growth = [ask for each in decisions if (ask := fit.growth(each)) is not None]
    if not growth:
        return decisions
    waiting = [ask for each in decisions if (ask := fit.waiting(each)) is not None]
    freed = [cards for each in decisions for cards in fit.freed(each)]
    placed = place(room, waiting, growth, freed)
    asks = {ask.server: ask for ask in growth}
    return tuple(
        _cut(each, asks[each.server], placed[each.server], room)
        if each.server in asks and placed[each.server] < asks[each.server].replicas
        else each
        for each in decisions
    )


class _Fit:
    """Decisions as replicas that come, wait and go."""

    def __init__(self, problem: Problem, room: Room) -> None:
        system = problem.system
        classes = {each.name: each.priority for each in system.classes}
        self._priority = {
            each.name: classes.get(each.service_class, LOWEST_PRIORITY) for each in system.servers
        }
        self._models = {each.name: each.model for each in system.servers}
        self._counter = CardCounter(system)
        self._room = room

    def growth(self, decision: Decision) -> Ask | None:
        """The replicas that must find a node for the decision to be made real."""
        before, after = decision.current, decision.desired
        cards = self._cards(decision.server, after.accelerator)
        more = after.replicas - before.replicas
        if decision.action is Action.SWITCH:
            old = self._cards(decision.server, before.accelerator)
            # On cards of the same type the old replicas leave theirs to the next new ones.
            same = old is not None and cards is not None and old.card_type == cards.card_type
            more = min(after.replicas, 1) if same else after.replicas
        if cards is None or more <= 0:
            return None
        return Ask(decision.server, self._priority[decision.server], cards, more)

    def waiting(self, decision: Decision) -> Ask | None:
        """The replicas that wait for a node already, and stay asked for."""
        cards = self._cards(decision.server, decision.current.accelerator)
        left = self._waits(decision) - self._fewer(decision)
        if cards is None or left <= 0:
            return None
        return Ask(decision.server, self._priority[decision.server], cards, left)

    def freed(self, decision: Decision) -> list[Cards]:
        """The cards of each replica that the decision takes from a node."""
        cards = self._cards(decision.server, decision.current.accelerator)
        count = self._fewer(decision) - self._waits(decision)
        return [] if cards is None else [cards] * max(count, 0)

    def _waits(self, decision: Decision) -> int:
        return self._room.waiting.get(decision.server, 0)

    @staticmethod
    def _fewer(decision: Decision) -> int:
        if decision.action is not Action.SCALE_DOWN:
            return 0
        return max(decision.current.replicas - decision.desired.replicas, 0)

    def _cards(self, server: str, accelerator: str) -> Cards | None:
        return self._counter.of_replica(self._models[server], accelerator)


def _cut(decision: Decision, ask: Ask, fit: int, room: Room) -> Decision:
    cards = ask.cards
    detail = (
        f"{fit} of {ask.replicas} new replicas fit: each needs {cards.count} cards of type"
        f" {cards.card_type} on one node, the freest node has {room.freest(cards.card_type)}"
    )
    return cut_growth(decision, HoldReason.NO_NODE_FITS, detail, fit)


def cut_growth(decision: Decision, reason: HoldReason, detail: str, fit: int) -> Decision:
    """The decision with `fit` of its new replicas, and why; a switch is whole or not at all."""
    before = decision.current
    partly = fit > 0 and decision.action is Action.SCALE_UP
    replicas = before.replicas + fit if partly else before.replicas
    hold = Hold(reason, Forbids.INCREASE, detail, replicas)
    holds = (*decision.holds, hold)
    if not partly:
        return replace(
            decision,
            action=Action.HOLD,
            desired=before,
            reason=explain_hold(before, (hold,)),
            holds=holds,
            makes_room_for=(),
            surge=0,
        )
    found = decision.desired
    desired = replace(
        found,
        replicas=replicas,
        cost_per_hour=found.cost_per_hour * replicas / found.replicas,
        itl_ms=before.itl_ms,
        ttft_ms=before.ttft_ms,
    )
    words = f"{decision.reason}; only to {replicas}: {reason} ({detail})"
    return replace(decision, desired=desired, reason=words, holds=holds)
