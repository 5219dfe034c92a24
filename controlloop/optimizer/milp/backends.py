"""The solvers behind PuLP: HiGHS, CBC, CPLEX; each says no more than it has shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import pulp
from pulp import constants

from controlloop.clock import Clock, SystemClock
from controlloop.errors import ControlLoopError

# Objectives are scaled to about a thousand: this is a billionth of the greatest.
_ABSOLUTE_GAP: Final = 1e-6
# A solver that is given no time at all does odd things.
_LEAST_TIME_S: Final = 0.01


class BackendError(ControlLoopError):
    """A solver is missing, refused the program or crashed."""


class Ending(Enum):
    """How a solver ended. OPTIMAL and INFEASIBLE are proven, FOUND and NOTHING are not."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    FOUND = "found"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a solver ended, and the least objective that it could not rule out, if it says."""

    ending: Ending
    bound: float | None = None


class Backend(Protocol):
    """Solves a PuLP program in place."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def available(self) -> bool:
        """Whether it is installed."""
        ...

    def solve(self, program: pulp.LpProblem, limit_s: float, gap: float) -> Answer:
        """Minimize; the values are in the program's variables unless there is NOTHING.

        OPTIMAL means within the relative `gap`.

        Raises:
            BackendError: it could not.

        """
        ...


class PulpBackend:
    """A solver that PuLP drives.

    Args:
        name: what messages call it.
        build: the PuLP solver for a time limit in seconds and a relative gap.
        read: how the program ended, as far as the solver itself says.
        clock: measures the time it takes; None is the machine's.
        refusal: says in plain words why the solver refused a program, from what it raised; ""
            where it crashed rather than refused.

    """

    def __init__(
        self,
        name: str,
        build: Callable[[float, float], Any],
        read: Callable[[pulp.LpProblem], Answer],
        clock: Clock | None = None,
        refusal: Callable[[Exception], str] = lambda _: "",
    ) -> None:
        self.name = name
        self._refusal = refusal
        self._build = build
        self._read = read
        self._clock = clock or SystemClock()

    def available(self) -> bool:
        """Whether PuLP finds it."""
        try:
            return bool(self._build(1.0, 0.0).available())
        except Exception:  # noqa: BLE001 - a solver that cannot even be asked is not there
            return False

    def solve(self, program: pulp.LpProblem, limit_s: float, gap: float) -> Answer:
        """Minimize within about `limit_s`; see `Backend`."""
        started = self._clock.monotonic()
        limit_s = max(limit_s, _LEAST_TIME_S)
        try:
            program.solve(self._build(limit_s, gap))
            answer = self._read(program)
        except Exception as error:  # a solver's bindings raise whatever they like
            why = self._refusal(error) or f"{self.name} failed ({_first_line(error)})"
            raise BackendError(why) from error
        if self._clock.monotonic() - started < limit_s:
            return answer
        # What a solver says of itself after its time is not believed.
        unproven = {Ending.OPTIMAL: Ending.FOUND, Ending.INFEASIBLE: Ending.NOTHING}
        return Answer(unproven.get(answer.ending, answer.ending), answer.bound)


def highs() -> PulpBackend:
    """HiGHS, in this process."""
    return PulpBackend(
        "HiGHS",
        lambda limit_s, gap: pulp.HiGHS(
            msg=False, threads=1, gapRel=gap, gapAbs=_ABSOLUTE_GAP, timeLimit=limit_s
        ),
        _read_highs,
    )


def cbc(path: str | None = None) -> PulpBackend:
    """CBC, as a process of its own; `path` None is that of the package `cbcbox`."""
    return PulpBackend(
        "CBC",
        lambda limit_s, gap: pulp.COIN_CMD(
            path=path or _cbc_path(),
            msg=False,
            gapRel=gap,
            gapAbs=_ABSOLUTE_GAP,
            timeLimit=limit_s,
        ),
        _read_cbc,
    )


def cplex() -> PulpBackend:
    """CPLEX, in this process; needs the extra `cplex`."""
    return PulpBackend(
        "CPLEX",
        lambda limit_s, gap: pulp.CPLEX_PY(msg=False, threads=1, gapRel=gap, timeLimit=limit_s),
        _read_cplex,
        refusal=_beyond_community_edition,
    )


def _beyond_community_edition(error: Exception) -> str:
    # CPLEX has no type for it: the number is that of its documented error codes.
    if "1016" not in str(error):
        return ""
    return (
        "the problem is larger than the community edition of CPLEX solves"
        " (1,000 variables or constraints)"
    )


def _cbc_path() -> str:
    import cbcbox

    return str(cbcbox.cbc_bin_path())


def _read_highs(program: pulp.LpProblem) -> Answer:
    import highspy

    model = program.solverModel
    status, info = model.getModelStatus(), model.getInfo()
    bound = info.mip_dual_bound if math.isfinite(info.mip_dual_bound) else None
    if status == highspy.HighsModelStatus.kOptimal:
        return Answer(Ending.OPTIMAL, bound)
    if status == highspy.HighsModelStatus.kInfeasible:
        return Answer(Ending.INFEASIBLE)
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return Answer(Ending.FOUND if found else Ending.NOTHING, bound)


def _read_cbc(program: pulp.LpProblem) -> Answer:
    if program.sol_status == constants.LpSolutionOptimal:
        return Answer(Ending.OPTIMAL)
    if program.status == constants.LpStatusInfeasible:
        return Answer(Ending.INFEASIBLE)
    found = program.sol_status == constants.LpSolutionIntegerFeasible
    return Answer(Ending.FOUND if found else Ending.NOTHING)


def _read_cplex(program: pulp.LpProblem) -> Answer:
    solution = program.solverModel.solution
    status, codes = solution.get_status(), solution.status
    if status in (codes.MIP_optimal, codes.optimal_tolerance):
        return Answer(Ending.OPTIMAL, solution.MIP.get_best_objective())
    if status == codes.MIP_infeasible:
        return Answer(Ending.INFEASIBLE)
    found = solution.is_primal_feasible()
    return Answer(
        Ending.FOUND if found else Ending.NOTHING,
        solution.MIP.get_best_objective() if found else None,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
