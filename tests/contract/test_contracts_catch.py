"""A contract that everything passes promises nothing: these plug-ins each break one law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import Phase, settings

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import Analysis, FloatArray, Percentiles, Replicas, Sizing, Targets
from controlloop.api.solution import Solution
from controlloop.api.system import OptimizerOptions
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.protocols import QueueModel, Solver
from controlloop.queueing.state_dependent import StateDependent
from controlloop.testing.queue_models import QueueModelContract
from controlloop.testing.solvers import SolverContract

TRUE = StateDependent()
LATENCIES = ("wait_ms", "prefill_ms")


@dataclass(frozen=True)
class Bent:
    """A true model but for what is bent."""

    state: Callable[[Analysis], Analysis] = lambda analysis: analysis
    sized: Callable[[Sizing], Sizing] = lambda sizing: sizing
    spread: Callable[[Percentiles], Percentiles] = lambda percentiles: percentiles
    name: str = "bent"
    parameter_names: tuple[str, ...] = TRUE.parameter_names

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        return TRUE.rate_range_rps(replicas)

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        return self.state(TRUE.analyze(replicas, rate_rps))

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        return self.sized(TRUE.size(replicas, targets))

    def percentiles(
        self, replicas: Replicas, rate_rps: FloatArray, levels: Sequence[float]
    ) -> Percentiles:
        return self.spread(TRUE.percentiles(replicas, rate_rps, levels))


def broken(contract: type, law: str) -> None:
    test, kept = vars(contract.__base__)[law], "_hypothesis_internal_use_settings"
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(test, kept):
            # That it fails is enough: the least example that fails would take minutes to find.
            unshrunk = settings(getattr(test, kept), phases=[Phase.explicit, Phase.generate])
            patch.setattr(test, kept, unshrunk)
        with pytest.raises((AssertionError, ExceptionGroup)):
            getattr(contract(), law)()


@pytest.mark.parametrize(
    ("bent", "law"),
    [
        (Bent(parameter_names=("a", "a")), "test_it_has_a_name_and_names_its_parameters_once"),
        (
            Bent(state=lambda a: replace(a, itl_ms=1 / a.itl_ms)),
            "test_more_arrivals_make_nothing_better",
        ),
        (
            Bent(state=lambda a: replace(a, waiting=a.waiting * 1.01)),
            "test_the_state_keeps_little_s_law_and_fits_in_the_replica",
        ),
        (
            Bent(state=lambda a: replace(a, itl_ms=np.sort(a.itl_ms))),
            "test_a_pair_is_answered_alike_alone_and_among_others",
        ),
        (
            Bent(state=lambda a: replace(a, **dict.fromkeys(LATENCIES, np.nan_to_num(a.wait_ms)))),
            "test_an_invalid_pair_is_told_and_disturbs_no_other",
        ),
        (
            Bent(sized=lambda s: replace(s, rate_rps=s.rate_rps * 0.99)),
            "test_what_is_sized_holds_and_nothing_more_would",
        ),
        (
            Bent(sized=lambda s: replace(s, status=np.zeros_like(s.status))),
            "test_a_target_below_its_floor_is_out_of_reach",
        ),
        (
            Bent(spread=lambda p: replace(p, ttft_ms=p.ttft_ms[::-1])),
            "test_percentiles_rise_with_their_level",
        ),
    ],
)
def test_a_model_that_breaks_a_law_is_caught(bent: Bent, law: str) -> None:
    class Contract(QueueModelContract):
        def model(self) -> QueueModel:
            return bent

    broken(Contract, law)


class Overdrawn:
    """Gives everybody what it needs, whatever cards there are."""

    name = "overdrawn"

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        solution = UnlimitedSolver().solve(candidates, capacity, options)
        return replace(solution, solver=self.name)


@dataclass(frozen=True)
class Retouched:
    """Greedy's answer, retouched."""

    touch: Callable[[Solution], Solution]
    name: str = "retouched"

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        return self.touch(GreedySolver().solve(candidates, capacity, options))


def one_less(solution: Solution) -> Solution:
    allocations = {
        name: replace(each, replicas=each.replicas - 1) if each.replicas > 1 else each
        for name, each in solution.allocations.items()
    }
    return replace(solution, allocations=allocations)


@pytest.mark.parametrize(
    ("solver", "law"),
    [
        (Overdrawn(), "test_no_more_cards_are_taken_than_there_are"),
        (
            Retouched(lambda s: replace(s, unserved=())),
            "test_every_server_is_accounted_for",
        ),
        (Retouched(one_less), "test_who_is_served_whole_has_what_the_load_needs"),
        (Retouched(one_less), "test_what_is_allocated_is_a_candidate_at_its_price"),
        (
            Retouched(lambda s: replace(s, objective=s.objective + 1)),
            "test_the_objective_is_the_value_of_what_is_allocated",
        ),
        (
            Retouched(lambda s: replace(s, bound=s.objective + 1, gap=0.0)),
            "test_a_status_says_no_more_than_is_proven",
        ),
    ],
)
def test_a_solver_that_breaks_a_law_is_caught(solver: Solver, law: str) -> None:
    class Contract(SolverContract):
        def solver(self) -> Solver:
            return solver

    broken(Contract, law)
