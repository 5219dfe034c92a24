"""Why a server got what it got: every accelerator, what decided, and what bound.

Rates in requests/s, times in ms, costs in cents/hour; values in the unit of the objective
(cents/hour, or W where power is made least).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controlloop.api.solution import Unserved
from controlloop.api.system import Allocation, Objective, Server, Target


class Standing(StrEnum):
    """How an accelerator stands for a server.

    FEASIBLE would serve it whole and fits beside everybody else; NO_CAPACITY would serve it,
    but its cards are not there or taken; NOT_ALLOWED is ruled out by what the server or the
    loop says; INFEASIBLE cannot serve it at all.
    """

    CHOSEN = "chosen"
    FEASIBLE = "feasible"
    NO_CAPACITY = "no-capacity"
    NOT_ALLOWED = "not-allowed"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What would serve a server whole.

    Attributes:
        allocation: accelerator, replicas, batch, cost and predictions for the server's load.
        rate_rps: the greatest rate of one replica within the targets.
        card_type: the type of its cards, "" for none.
        cards: that all replicas take.
        value: what the solver makes least: the expense of getting there from what runs now.
        power_w: predicted; None where the accelerator has no power data.

    """

    allocation: Allocation
    rate_rps: float
    card_type: str
    cards: int
    value: float
    power_w: float | None


class Limit(StrEnum):
    """What kept a server from a better candidate.

    CAPACITY: there are not enough cards, or servers of equal or lower priority have them.
    PRIORITY: servers of higher priority have them. KEEP: its accelerator must stay. MINIMUM and
    MAXIMUM: bounds on its replicas.
    """

    CAPACITY = "capacity"
    PRIORITY = "priority"
    KEEP = "keepAccelerator"
    MINIMUM = "minNumReplicas"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True)
class Option:
    """One accelerator for one server.

    `candidate` is None where the accelerator cannot serve the server. `reason` says why it cannot,
    or may not; `limit` is what stands between the server and the candidate.
    """

    accelerator: str
    standing: Standing
    reason: str = ""
    candidate: Candidate | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit that kept a server from `accelerator`.

    `saving` is the value that the server would gain without it, None where the server is not
    served whole, since a server that is served compares with nothing.
    """

    limit: Limit
    accelerator: str
    detail: str
    saving: float | None


@dataclass(frozen=True, slots=True)
class ShadowPrice:
    """What one more card of a type would change, by solving again with it.

    Attributes:
        card_type: the type.
        saving: by how much the total value falls; None where other servers are served, since
            totals of different servers do not compare.
        newly_served: servers that are served whole only then.
        no_longer_served: servers that are served whole only without it.
        allocation: what the server explained would get, None where it is the same.

    """

    card_type: str
    saving: float | None
    newly_served: tuple[str, ...] = ()
    no_longer_served: tuple[str, ...] = ()
    allocation: Allocation | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one server got what it got.

    Attributes:
        server: with its load and what runs now.
        priority: of its class, None where the class is not known.
        target: its objectives, None where there are none.
        objective: what the solver makes least.
        solver: its name.
        demand_rps: the rate to be served.
        demand_from: where that comes from, in words.
        options: accelerators in their order; the zero allocation has the name "".
        allocation: what it got, None for nothing: then it keeps what it has.
        shortfall: why that is nothing or less than it needs, None where it is whole.
        bindings: what kept it from something better.
        shadow_prices: by card type; None where nobody asked for them.
        mix_value: what a mix of several accelerators is worth; None for one accelerator.
        message: what there is to know of how the answer was found, "" for nothing.

    """

    server: Server
    priority: int | None
    target: Target | None
    objective: Objective
    solver: str
    demand_rps: float
    demand_from: str
    options: tuple[Option, ...]
    allocation: Allocation | None
    shortfall: Unserved | None
    bindings: tuple[Binding, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] | None = None
    mix_value: float | None = None
    message: str = ""

    @property
    def value(self) -> float | None:
        """What it got is worth; None where it got nothing."""
        if self.mix_value is not None:
            return self.mix_value
        return None if self.chosen is None else self.chosen.value

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that the server got, whole or in part; None for a mix of several."""
        if self.allocation is not None and self.allocation.variants:
            return None
        return next(
            (each.candidate for each in self.options if each.standing is Standing.CHOSEN), None
        )

    @property
    def next_best(self) -> Candidate | None:
        """The candidate of least value besides, among those that are allowed and fit.

        Beside a mix of several accelerators that is the best one accelerator.
        """
        mixed = self.mix_value is not None
        others = [
            each.candidate
            for each in self.options
            if each.candidate is not None
            and (
                each.standing is Standing.FEASIBLE
                or (mixed and each.standing is Standing.CHOSEN and each.limit is None)
            )
        ]
        return min(others, key=lambda each: each.value, default=None)
