"""Whether a mix fits beside what runs, and what is then to come and to go. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Problem, SiblingGoal
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.placing import Ask, Room, less, place
from controlloop.stability.choosing import Spot
from controlloop.stability.mixes import Mix, Standing, running, spot_of
from controlloop.stability.moving import NO_LIMIT


@dataclass(frozen=True, slots=True)
class Begun:
    """What is begun in one cycle.

    Attributes:
        problem: less the cards of siblings that are to come; with what speaks against the others.
        goals: siblings that are to come, or to grow, by server.
        leaving: replicas that siblings are to shrink to, by server and accelerator.

    """

    problem: Problem
    goals: Mapping[str, tuple[SiblingGoal, ...]]
    leaving: Mapping[str, Mapping[str, int]]


def begin(
    problem: Problem,
    standings: Mapping[str, Standing],
    mixes: Mapping[str, Mix],
    *,
    unlimited: bool,
) -> Begun:
    """Begin those of `mixes` for which all new replicas fit beside all that run.

    Args:
        problem: without siblings, and without their cards.
        standings: by server, those of `mixes` at least.
        mixes: what is to run, by server.
        unlimited: whether cards are no matter.

    """
    system = problem.system
    counter, capacity = CardCounter(system), Counter(dict(system.capacity))
    left = capacity.copy()
    left.subtract(counter.used({each.name: each.current for each in system.servers}))
    room, holds = problem.room, dict(problem.holds)
    goals: dict[str, tuple[SiblingGoal, ...]] = {}
    leaving: dict[str, Mapping[str, int]] = {}
    for name, mix in mixes.items():
        standing = standings[name]
        own, growth = _growth(standing, mix)
        asks = _asks(standing, {**growth, **own}, counter)
        against = _against(standing, mix, asks, None if unlimited else left, room)
        if against is not None:
            holds[name] = (*holds.get(name, ()), against)
            continue
        left.subtract(_cards(asks))
        coming = _asks(standing, growth, counter)
        capacity.subtract(_cards(coming))
        for ask in coming if room is not None else ():
            nodes = less(room.nodes, ask.cards, ask.replicas, room.elastic) if room else ()
            room = replace(room, nodes=nodes) if room else None
        goals[name] = _goals(standing, mix)
        leaving[name] = {
            spot.accelerator: mix.siblings.get(spot, 0)
            for spot, count in running(standing).items()
            if mix.siblings.get(spot, 0) < count
        }
    cards = {kind: max(count, 0) for kind, count in capacity.items()}
    problem = replace(problem, system=replace(system, capacity=cards), holds=holds, room=room)
    return Begun(problem, goals, {name: each for name, each in leaving.items() if each})


def note(reason: HoldReason, detail: str) -> Hold:
    """A hold that forbids nothing but the mix."""
    return Hold(reason, Forbids.INCREASE, detail, NO_LIMIT)


def _growth(standing: Standing, mix: Mix) -> tuple[Mapping[Spot, int], Mapping[Spot, int]]:
    """Replicas to add: of the server's own, and of siblings."""
    workload, there = standing.seen.workload, running(standing)
    own = {spot_of(workload): mix.own - workload.replicas}
    siblings = {spot: count - there.get(spot, 0) for spot, count in mix.siblings.items()}
    return own, {spot: count for spot, count in siblings.items() if count > 0}


def _asks(standing: Standing, growth: Mapping[Spot, int], counter: CardCounter) -> list[Ask]:
    model = standing.seen.workload.model
    return [
        Ask(spot.accelerator, 0, cards, count)
        for spot, count in growth.items()
        if count > 0 and (cards := counter.of_replica(model, spot.accelerator)) is not None
    ]


def _cards(asks: list[Ask]) -> Counter[str]:
    total: Counter[str] = Counter()
    for ask in asks:
        total[ask.cards.card_type] += ask.cards.count * ask.replicas
    return total


def _against(
    standing: Standing,
    mix: Mix,
    asks: list[Ask],
    left: Mapping[str, int] | None,
    room: Room | None,
) -> Hold | None:
    """The first thing that speaks against a mix; None where nothing does."""
    rollable = standing.seen.workload.rollable
    new = any(spot not in running(standing) for spot in mix.siblings)
    if new and rollable is not None and rollable.clash:
        return note(HoldReason.SIBLING_SELECTOR, rollable.clash)
    words = _words(standing, mix)
    for kind, count in _cards(asks).items() if left is not None else ():
        there = max(left.get(kind, 0), 0) if left is not None else 0
        if count > there:
            detail = (
                f"{words} do not fit beside what runs: {there} cards of type {kind} are free,"
                f" {count} are needed"
            )
            return note(HoldReason.SWITCH_NO_ROOM, detail)
    placed = {} if room is None else place(room, (), asks)
    for ask in asks if room is not None else ():
        if placed[ask.server] < ask.replicas:
            detail = (
                f"{words} find no nodes: {placed[ask.server]} of {ask.replicas} new ones of"
                f" {ask.server} do, each needs {ask.cards.count} cards of type"
                f" {ask.cards.card_type} on one"
            )
            return note(HoldReason.SWITCH_NO_ROOM, detail)
    return None


def _goals(standing: Standing, mix: Mix) -> tuple[SiblingGoal, ...]:
    """Siblings that are to come or to grow."""
    there = {spot_of(each): each for each in standing.seen.siblings}
    before = running(standing)
    return tuple(
        SiblingGoal(
            spot.accelerator,
            spot.max_batch,
            before=before.get(spot, 0),
            replicas=count,
            reason=f"{_words(standing, mix)} serve its load at {mix.cost_per_hour:.0f} cents/h",
            ref=there[spot].ref if spot in there else None,
        )
        for spot, count in mix.siblings.items()
        if count > before.get(spot, 0)
    )


def _words(standing: Standing, mix: Mix) -> str:
    own = f"{mix.own} of {standing.seen.workload.accelerator}"
    others = (f"{count} of {spot.accelerator}" for spot, count in mix.siblings.items())
    return " and ".join([own, *others])
