"""Best effort: what is left of too few cards, under each policy."""

from __future__ import annotations

from typing import Any

import pytest

from controlloop.api.solution import Solution, UnservedReason
from controlloop.api.system import SaturationPolicy


def replicas(solution: Solution) -> dict[str, tuple[str, int]]:
    return {
        name: (each.accelerator, each.replicas)
        for name, each in sorted(solution.allocations.items())
    }


def crowd(lab: Any, policy: SaturationPolicy, *, delayed: bool = False, cards: int = 7) -> Solution:
    """Each of three servers needs five cards of A, the first two are of priority 1."""
    system = lab.system(
        [lab.accelerator("A", 2.0)],
        [lab.perf("m", "A")],
        [
            lab.server("a", 5.0, priority=1),
            lab.server("b", 5.0, priority=1),
            lab.server("c", 5.0, priority=2),
        ],
        capacity={"A": cards},
        saturation_policy=policy,
        delayed_best_effort=delayed,
    )
    return lab.solve(system)  # type: ignore[no-any-return]


def test_none_leaves_what_does_not_fit_whole(lab: Any) -> None:
    assert replicas(crowd(lab, SaturationPolicy.NONE)) == {"a": ("A", 5)}


def test_exhaustive_gives_as_many_as_fit_in_order(lab: Any) -> None:
    solution = crowd(lab, SaturationPolicy.PRIORITY_EXHAUSTIVE)
    assert replicas(solution) == {"a": ("A", 5), "b": ("A", 2)}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        # "a" fits whole; four cards are left for "b" and "c", who need five each.
        (SaturationPolicy.NONE, {"a": 5}),
        (SaturationPolicy.PRIORITY_EXHAUSTIVE, {"a": 5, "b": 4}),
        (SaturationPolicy.PRIORITY_ROUND_ROBIN, {"a": 5, "b": 4}),
        (SaturationPolicy.ROUND_ROBIN, {"a": 5, "b": 2, "c": 2}),
    ],
)
def test_delayed_best_effort_comes_after_all_priorities(
    lab: Any, policy: SaturationPolicy, expected: dict[str, int]
) -> None:
    solution = crowd(lab, policy, delayed=True, cards=9)
    assert {name: count for name, (_, count) in replicas(solution).items()} == expected


def test_best_effort_of_a_high_priority_leaves_less_for_the_next(lab: Any) -> None:
    def served(*, delayed: bool) -> dict[str, tuple[str, int]]:
        system = lab.system(
            [lab.accelerator("A", 2.0)],
            [lab.perf("m", "A")],
            [lab.server("high", 5.0), lab.server("low", 3.0, priority=2)],
            capacity={"A": 4},
            saturation_policy=SaturationPolicy.ROUND_ROBIN,
            delayed_best_effort=delayed,
        )
        return replicas(lab.solve(system))

    assert served(delayed=False) == {"high": ("A", 4)}
    assert served(delayed=True) == {"high": ("A", 1), "low": ("A", 3)}


def test_round_robin_hands_out_one_at_a_time_until_needs_are_met(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 2.0), lab.accelerator("2xA", 2.0, kind="A", cards=2)],
        [lab.perf("m", "A"), lab.perf("n", "2xA")],
        [
            lab.server("a", 9.0, model="m"),
            lab.server("b", 8.0, model="m"),
            lab.server("c", 7.0, model="n"),
        ],
        capacity={"A": 7},
        saturation_policy=SaturationPolicy.ROUND_ROBIN,
    )
    # By value: a, b, c. Round 1 takes 1 + 1 + 2 cards, round 2 has 3: 1 + 1, none for c.
    # One card is left, which goes to a.
    assert replicas(lab.solve(system)) == {"a": ("A", 3), "b": ("A", 2), "c": ("2xA", 1)}


def test_a_server_sticks_to_the_first_candidate_of_which_one_fits(lab: Any) -> None:
    for policy, expected in (
        (SaturationPolicy.ROUND_ROBIN, ("B", 2)),
        (SaturationPolicy.PRIORITY_ROUND_ROBIN, ("B", 2)),
        (SaturationPolicy.PRIORITY_EXHAUSTIVE, ("B", 2)),
    ):
        system = lab.system(
            [lab.accelerator("A", 1.0), lab.accelerator("B", 2.0), lab.accelerator("C", 3.0)],
            [
                lab.perf("m", "A", accelerators_per_replica=2),
                lab.perf("m", "B"),
                lab.perf("m", "C"),
            ],
            [lab.server("s", 5.0)],
            capacity={"A": 1, "B": 2, "C": 4},
            saturation_policy=policy,
        )
        assert replicas(lab.solve(system)) == {"s": expected}


def test_part_of_a_candidate_costs_its_part_and_is_predicted_anew(lab: Any) -> None:
    solution = crowd(lab, SaturationPolicy.PRIORITY_EXHAUSTIVE)
    whole, part = solution.allocations["a"], solution.allocations["b"]
    assert (whole.cost_per_hour, part.cost_per_hour) == (10.0, 4.0)
    # Five requests/s on two replicas of one: capped at saturation, where TTFT is 10 + 100.
    assert (whole.ttft_ms, part.ttft_ms) == (110.0, 110.0)
    assert solution.objective == pytest.approx(1.1 * 10 * (1 + 2 / 5))
    (entry, last) = solution.unserved
    assert entry.detail == "2 of 5 replicas of A: one takes 1 card, 0 of type A left"
    assert (entry.reason, last.server) == (UnservedReason.NO_CAPACITY, "c")


def test_fewer_replicas_have_more_load_each(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A")],
        [lab.perf("m", "A", 4.0)],
        [lab.server("s", 6.0, min_replicas=6)],
        capacity={"A": 3},
        saturation_policy=SaturationPolicy.PRIORITY_EXHAUSTIVE,
    )
    # 2 requests/s on a replica that can do 4; with all six it would have been 1.
    assert lab.solve(system).allocations["s"].ttft_ms == pytest.approx(10 + 100 * 2 / 4)
