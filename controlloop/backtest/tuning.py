"""Choosing a knob on training load, and costs at equal attainment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What one value of a knob got: a share of requests within objectives, for a cost."""

    knob: float
    attainment: float
    cost: float


def chosen(points: Sequence[Point], goal: float) -> Point:
    """The cheapest point that reaches `goal`; where none does, the one that comes nearest.

    Of equally good ones it is the cheapest, then the first. At least one point.
    """
    reaching = [one for one in points if one.attainment >= goal]
    if reaching:
        return min(reaching, key=lambda one: one.cost)
    return min(points, key=lambda one: (-one.attainment, one.cost))


def frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other one beats in both attainment and cost, rising in both."""
    best: list[Point] = []
    for one in sorted(points, key=lambda point: (point.cost, -point.attainment)):
        if not best or one.attainment > best[-1].attainment:
            best.append(one)
    return tuple(best)


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attainment costs; `is_bound`: at most so much, since no cheaper knob was tried."""

    value: float
    is_bound: bool = False


def cost_at(points: Sequence[Point], attainment: float) -> Cost | None:
    """The least cost at `attainment`, between the points of the frontier in a straight line.

    None where no point reaches it. What the cheapest point surpasses costs at most what that
    costs.
    """
    edge = frontier(points)
    if not edge or edge[-1].attainment < attainment:
        return None
    above = next(index for index, one in enumerate(edge) if one.attainment >= attainment)
    if above == 0:
        return Cost(edge[0].cost, is_bound=edge[0].attainment > attainment)
    low, high = edge[above - 1], edge[above]
    share = (attainment - low.attainment) / (high.attainment - low.attainment)
    return Cost(low.cost + share * (high.cost - low.cost))
