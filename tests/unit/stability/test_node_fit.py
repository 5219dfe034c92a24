"""Growth that finds no node is cut, what runs is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.cards import Cards
from controlloop.api.decision import Action, Decision, Problem
from controlloop.api.holds import HoldReason
from controlloop.api.node_cards import NodeCards
from controlloop.api.placing import Ask, Room, place
from controlloop.api.system import (
    Accelerator,
    Allocation,
    PerfParameters,
    Server,
    ServiceClass,
    System,
)
from controlloop.stability.node_fit import within_nodes

SYSTEM = System(
    accelerators=(Accelerator("8xA", "A", 8, 8.0), Accelerator("A", "A", 1, 1.0)),
    perf=tuple(PerfParameters("m", each, (1.0,) * 4, 8, 100) for each in ("8xA", "A")),
    classes=(ServiceClass("first", 1), ServiceClass("last", 9)),
    servers=(Server("big", "m", "last"), Server("small", "m", "first")),
)


def nodes(*free: int) -> tuple[NodeCards, ...]:
    return tuple(NodeCards(f"n{at}", "A", cards) for at, cards in enumerate(free))


def change(server: str, accelerator: str, before: int, after: int) -> Decision:
    action = Action.SCALE_UP if after > before else Action.SCALE_DOWN
    here = Allocation(accelerator, before, 8, float(before))
    there = replace(here, replicas=after, cost_per_hour=float(after))
    return Decision(server, action, here, there, "because", makes_room_for=("x",))


def fitted(room: Room, *decisions: Decision) -> tuple[Decision, ...]:
    return within_nodes(decisions, Problem(SYSTEM, {}, {}, room=room))


def test_two_replicas_of_eight_cards_do_not_fit_four_nodes_of_four() -> None:
    (decision,) = fitted(Room(nodes(4, 4, 4, 4), {}), change("big", "8xA", 1, 3))
    assert (decision.action, decision.desired.replicas) == (Action.HOLD, 1)
    (hold,) = decision.holds
    assert hold.reason is HoldReason.NO_NODE_FITS
    for number in ("0 of 2", "8 cards", "has 4"):
        assert number in hold.detail
    assert "no-node-fits" in decision.reason
    assert decision.makes_room_for == ()


def test_growth_is_cut_to_what_fits_and_says_so() -> None:
    (decision,) = fitted(Room(nodes(8, 17, 7), {}), change("big", "8xA", 1, 6))
    assert (decision.action, decision.desired.replicas) == (Action.SCALE_UP, 4)
    assert decision.desired.cost_per_hour == pytest.approx(4.0)
    assert "3 of 5 new replicas fit" in decision.reason


def test_what_waits_already_has_its_cards_before_growth() -> None:
    room = Room(nodes(8), {"big": 1})
    kept, cut = fitted(
        room,
        Decision("big", Action.KEEP, Allocation("8xA", 2), Allocation("8xA", 2), ""),
        change("small", "A", 1, 3),
    )
    # Of higher priority, but the other was asked for before: it only waits for its node.
    assert (kept.desired.replicas, cut.action, cut.desired.replicas) == (2, Action.HOLD, 1)


def test_cards_given_up_by_one_are_there_for_the_other() -> None:
    room = Room(nodes(0), {})
    down, up = fitted(room, change("big", "8xA", 2, 1), change("small", "A", 1, 9))
    assert (down.desired.replicas, up.desired.replicas) == (1, 9)


def test_where_little_ones_give_way_a_great_one_is_not_sure_of_a_node() -> None:
    down, up = fitted(Room(nodes(0), {}), change("small", "A", 9, 1), change("big", "8xA", 1, 2))
    assert (down.desired.replicas, up.action) == (1, Action.HOLD)


def test_the_higher_priority_is_placed_first() -> None:
    up, first = fitted(Room(nodes(8), {}), change("big", "8xA", 1, 2), change("small", "A", 1, 2))
    assert (up.action, first.desired.replicas) == (Action.HOLD, 2)


def test_a_switch_is_made_whole_or_not_at_all() -> None:
    system = replace(
        SYSTEM,
        accelerators=(*SYSTEM.accelerators, Accelerator("8xB", "B", 8, 4.0)),
        perf=(*SYSTEM.perf, PerfParameters("m", "8xB", (1.0,) * 4, 8, 100)),
    )
    switch = Decision("big", Action.SWITCH, Allocation("8xA", 2), Allocation("8xB", 2), "", surge=2)
    for free, action in ((8, Action.HOLD), (16, Action.SWITCH)):
        room = Room((NodeCards("b", "B", free),), {})
        (decision,) = within_nodes((switch,), Problem(system, {}, {}, room=room))
        assert decision.action is action


def test_an_elastic_type_and_an_unknown_room_bind_nothing() -> None:
    grows = change("big", "8xA", 1, 3)
    assert fitted(Room((), {}, ("A",)), grows) == (grows,)
    assert within_nodes((grows,), Problem(SYSTEM, {}, {})) == (grows,)


ASKS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(0, 6)), max_size=8)


@given(free=st.lists(st.integers(0, 16), max_size=6), asks=ASKS)
def test_placing_never_exceeds_any_node(free: list[int], asks: list[tuple[int, int, int]]) -> None:
    growth = [
        Ask(f"s{at}", priority, Cards("A", cards), count)
        for at, (priority, cards, count) in enumerate(asks)
    ]
    placed = place(Room(nodes(*free), {}), (), growth)
    wanted = {ask.server: ask.replicas for ask in growth}
    assert all(0 <= placed[name] <= wanted[name] for name in wanted)
    # Every node takes whole replicas: what is placed must divide over them one by one.
    assert packs(free, growth, dict(placed))


def packs(free: list[int], growth: list[Ask], placed: dict[str, int]) -> bool:
    """Whether the placed replicas can be put on the nodes, by trying."""
    pieces = sorted(
        (ask.cards.count for ask in growth for _ in range(placed[ask.server])), reverse=True
    )
    return _try(pieces, sorted(free), set())


def _try(pieces: list[int], left: list[int], failed: set[tuple[int, tuple[int, ...]]]) -> bool:
    if not pieces:
        return True
    key = (len(pieces), tuple(left))
    if key in failed:
        return False
    for at in range(len(left)):
        if left[at] >= pieces[0] and (at == 0 or left[at] != left[at - 1]):
            rest = sorted([*left[:at], left[at] - pieces[0], *left[at + 1 :]])
            if _try(pieces[1:], rest, failed):
                return True
    failed.add(key)
    return False


@given(
    free=st.lists(st.integers(0, 10), max_size=4),
    big=st.tuples(st.integers(0, 4), st.integers(0, 6)),
    small=st.tuples(st.integers(0, 4), st.integers(0, 6)),
)
def test_nothing_that_runs_is_taken(
    free: list[int], big: tuple[int, int], small: tuple[int, int]
) -> None:
    decisions = (change("big", "8xA", *big), change("small", "A", *small))
    for before, after in zip(decisions, fitted(Room(nodes(*free), {}), *decisions), strict=True):
        least = min(before.current.replicas, before.desired.replicas)
        assert least <= after.desired.replicas <= max(least, before.desired.replicas)
