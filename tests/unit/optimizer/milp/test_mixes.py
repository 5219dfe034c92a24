"""Mixes of replicas: against all there are, and what a search that is cut short still knows."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.optimizer.milp.mixes import Part, find_mixes

pytestmark = pytest.mark.slow

ANY = 1e9


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Up to four accelerators, of which some run now."""
    found = []
    for row in range(draw(st.integers(1, 4))):
        runs = draw(st.booleans())
        cost = draw(st.sampled_from([0.0, 4.0, 9.0]))
        found.append(
            Part(
                row=row,
                rate_rps=draw(st.sampled_from([0.5, 1.0, 1.25, 3.0])),
                most=draw(st.integers(0, 4)),
                weight=draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.25])),
                entry=-0.1 * cost if runs else 0.0,
                running=draw(st.integers(1, 3)) if runs else 0,
                unchanged=draw(st.sampled_from([-1.0, 0.0, 0.5])) if runs else 0.0,
            )
        )
    return found


def all_mixes(given_parts: list[Part], demand_rps: float, least: int) -> dict[object, float]:
    found: dict[object, float] = {}
    for counts in product(*(range(part.most + 1) for part in given_parts)):
        rate = sum(n * part.rate_rps for n, part in zip(counts, given_parts, strict=True))
        if rate >= demand_rps - 1e-9 and sum(counts) >= least:
            mix = tuple((p.row, n) for p, n in zip(given_parts, counts, strict=True) if n)
            found[mix] = sum(p.cost(n) for p, n in zip(given_parts, counts, strict=True))
    return found


@settings(max_examples=400)
@given(
    given_parts=parts(),
    demand_rps=st.sampled_from([0.0, 0.4, 1.0, 2.75, 4.0]),
    least=st.integers(0, 3),
    margin=st.sampled_from([0.0, 0.75, 4.0]),
)
def test_the_best_mixes_are_found(
    given_parts: list[Part], demand_rps: float, least: int, margin: float
) -> None:
    every = all_mixes(given_parts, demand_rps, least)
    found = find_mixes(
        given_parts, demand_rps, least, ceiling=ANY, margin=margin, most=10_000, steps=10**6
    )
    assert found.complete
    costs = {mix: cost for cost, mix in found.found}
    assert all(costs[mix] == pytest.approx(every[mix]) for mix in costs)
    if not every:
        assert not costs
        return
    best = min(every.values())
    assert found.floor == pytest.approx(best)
    # Whatever is not found has a part that could be left out at no loss, or is too dear.
    for mix, cost in every.items():
        if cost <= best + margin - 1e-9 and mix not in costs:
            assert any(
                other != mix and cheaper <= cost + 1e-9 and _within(other, mix)
                for other, cheaper in every.items()
            )


def _within(smaller: object, larger: object) -> bool:
    counts = dict(larger)  # type: ignore[call-overload]
    return all(counts.get(row, 0) >= n for row, n in smaller)  # type: ignore[attr-defined]


@settings(max_examples=200)
@given(
    given_parts=parts(),
    demand_rps=st.sampled_from([0.4, 1.0, 2.75, 4.0]),
    steps=st.integers(0, 12),
    ceiling=st.sampled_from([-1.0, 1.0, 3.0, ANY]),
)
def test_a_search_that_is_cut_short_gives_a_floor_that_holds(
    given_parts: list[Part], demand_rps: float, steps: int, ceiling: float
) -> None:
    every = all_mixes(given_parts, demand_rps, 0)
    found = find_mixes(given_parts, demand_rps, 0, ceiling=ceiling, margin=0.0, most=3, steps=steps)
    assert all(cost <= ceiling for cost, _ in found.found)
    if every:
        assert found.floor <= max(min(every.values()), ceiling) + 1e-9


def test_only_what_is_better_is_looked_for_with_a_margin_below_zero() -> None:
    alike = [Part(row=row, rate_rps=1.0, most=5, weight=1.0) for row in range(4)]
    found = find_mixes(alike, 5.0, 0, ceiling=ANY, margin=-1e-9, most=1000, steps=10**5)
    assert len(found.found) == 1
    assert found.floor == 5.0
    every = find_mixes(alike, 5.0, 0, ceiling=ANY, margin=0.0, most=1000, steps=10**5)
    assert len(every.found) == 56
