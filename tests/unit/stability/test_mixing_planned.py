"""Several accelerators at once, with the real planner and the real plan on a fleet of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.cards import CardCounter
from controlloop.api.decision import Patch, Plan, Problem, Refusal, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import (
    Kinship,
    Observation,
    Pod,
    ServerObservation,
    Workload,
    WorkloadRef,
)
from controlloop.api.solution import Solution
from controlloop.api.switching import PodTemplate, Rollable
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.optimizer.needs import replicas_needed
from controlloop.optimizer.planner import Planner
from controlloop.stability.bounds import Bounds, BoundsPolicy
from controlloop.stability.mix_choice import MixOptions
from controlloop.stability.mixing import MixingPolicy
from controlloop.stability.moving import MoveOptions, MovingPolicy

CYCLES = 3
PERIOD_S = 60.0
BOTH = frozenset({"A100", "H100"})
TEMPLATES = {name: AcceleratorTemplate(node_selector={"gpu": name}) for name in BOTH}
ROLLABLE = Rollable(PodTemplate("engine"), digest="first")
NUMBERS = ("_startup_s", "_backoff_s")
PARAMETERS = (8.0, 0.2, 5.0, 0.005)


@dataclass
class Fleet:
    """One server; whatever is asked for is ready a cycle later, as far as `starts` lets it."""

    a100: int = 4
    h100: int = 8
    h100_cost: float = 60.0
    rate_rps: float = 60.0
    replicas: int = 4
    even: bool = True
    heterogeneous: bool = True
    starts: bool = True
    moving: bool = False
    solver: str = "milp"
    remarks: tuple[str, ...] = ()
    renewals: int = 0
    switched_to: str | None = None
    forgotten: str = ""
    silent: bool = False
    refused: bool = False
    written: bool = True
    down_window_s: float = 0.0
    overdrawn: bool = False
    faster: float = 1.0
    now: float = 0.0
    holds: tuple[Hold, ...] = ()
    rollable: Rollable = ROLLABLE
    deployments: dict[str, Workload] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[HoldReason] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.planner = Planner(solver=self.solver, siblings=True)
        self.deployments["chat"] = Workload(
            WorkloadRef("ns", "chat", "uid-chat", "1"),
            "chat",
            "m",
            "Free",
            "A100",
            8,
            self.replicas,
            ready_replicas=self.replicas,
            labels={"inferno.server.name": "chat", "inferno.server.model": "m"},
        )
        self.restart()

    def restart(self) -> None:
        """A new process: it remembers nothing."""
        bounds = BoundsPolicy(Bounds(down_window_s=0))
        moves = MoveOptions(BOTH, cycles=CYCLES, batches=False)
        self.policy = MixingPolicy(
            MovingPolicy(bounds, moves, self.planner.solve) if self.moving else bounds,
            MixOptions(
                BOTH,
                cycles=CYCLES,
                even=self.even,
                startup_s=300.0,
                batches=False,
                written=self.written,
                down_window_s=self.down_window_s,
            ),
            self.planner.mixes,
            replicas_needed,
        )

    @property
    def system(self) -> System:
        load = Load(self.rate_rps, 128.0, 64.0)
        primary = self.deployments["chat"]
        current = Allocation("A100", primary.replicas, 8, 40.0 * primary.replicas, load=load)
        fast = tuple(each / self.faster for each in PARAMETERS)
        accelerators = (
            Accelerator("A100", "A100", 1, 40.0),
            Accelerator("H100", "H100", 1, self.h100_cost),
        )
        perf = (
            PerfParameters("m", "A100", PARAMETERS, 8, 64),
            PerfParameters("m", "H100", fast, 8, 64),
        )
        return System(
            accelerators=tuple(each for each in accelerators if each.name != self.forgotten),
            capacity={"A100": self.a100, "H100": self.h100},
            perf=tuple(each for each in perf if each.accelerator != self.forgotten),
            classes=(ServiceClass("Free", 100, (Target("m", 12.0, 1000.0),)),),
            servers=(Server("chat", "m", max_batch=8, current=current),),
            options=OptimizerOptions(heterogeneous=self.heterogeneous),
        )

    def cycle(self) -> Plan:
        """One cycle, its plan carried out; what was asked for before is ready by then."""
        for name, each in self.deployments.items():
            ready = each.replicas if self.starts else min(each.replicas, each.ready_replicas)
            pods = tuple(Pod(f"{name}-{at}", f"{name}-{at}") for at in range(each.replicas))
            if self.silent and name != "chat":
                ready, lost = 0, {"ready": False, "started_at": 0.0, "unready_since": 900.0}
                pods = tuple(replace(pod, **lost) for pod in pods)  # type: ignore[arg-type]
            self.deployments[name] = replace(each, ready_replicas=ready, pods=pods)
        primary = replace(self.deployments["chat"], rollable=self.rollable)
        siblings = tuple(each for name, each in self.deployments.items() if name != "chat")
        server = ServerObservation(primary, holds=self.holds, siblings=siblings)
        seen = Observation(self.now, (server,))
        holds = {"chat": server.all_holds}
        situation = Situation(self.now, 0.0, self.system, holds, seen)
        problem = self.policy.shape(situation)
        decided = self.policy.steady(problem, self.planner.solve(problem))
        self.notes = [hold.reason for each in decided.decisions for hold in each.holds]
        self.remarks = decided.notes
        made = plan(decided, seen, Means(TEMPLATES, now=self.now))
        self.refusals = list(made.refusals)
        for patch in made.patches:
            self._carry_out(patch)
        self.now += PERIOD_S
        self._check()
        return made

    def run(self, cycles: int) -> None:
        for _ in range(cycles):
            self.cycle()

    def counts(self) -> dict[str, int]:
        return {each.accelerator: each.replicas for each in self.deployments.values()}

    def capable(self) -> float:
        """The load's need that ready replicas cover, by what each can do: 1 is all."""
        system = self.system
        total = 0.0
        for each in self.deployments.values():
            current = replace(system.servers[0].current, accelerator=each.accelerator, replicas=1)
            alone = replace(system, servers=(replace(system.servers[0], current=current),))
            needed = replicas_needed(alone).get("chat")
            total += min(each.ready_replicas, each.replicas) / needed if needed else 0.0
        return total

    def _carry_out(self, patch: Patch) -> None:
        name = patch.ref.name
        if patch.change is not None:
            self.switched_to = patch.labels["inferno.server.allocation.accelerator"]
        elif patch.removes:
            assert not self.deployments[name].replicas
            del self.deployments[name]
        elif patch.birth is not None and name in self.deployments:
            before = self.deployments[name]
            assert patch.replicas == before.replicas
            kinship = Kinship("uid-chat", patch.birth.source)
            self.deployments[name] = replace(before, kinship=kinship)
            self.renewals += 1
        elif patch.birth is not None and self.refused:
            pass
        elif patch.birth is not None:
            self.deployments[name] = Workload(
                replace(patch.ref, uid=f"uid-{name}", resource_version="1"),
                patch.labels["inferno.server.name"] or "",
                "m",
                "Free",
                patch.labels["inferno.server.allocation.accelerator"] or "",
                8,
                patch.replicas,
                kinship=Kinship("uid-chat", patch.birth.source),
            )
        else:
            before = self.deployments[name]
            ready = min(before.ready_replicas, patch.replicas)
            self.deployments[name] = replace(before, replicas=patch.replicas, ready_replicas=ready)

    def _check(self) -> None:
        taken = CardCounter(self.system)
        for kind, most in (("A100", self.a100), ("H100", self.h100)):
            used = sum(
                one.count * each.replicas
                for each in self.deployments.values()
                if (one := taken.of_replica("m", each.accelerator)) and one.card_type == kind
            )
            assert self.overdrawn or used <= most, (kind, self.counts())


@pytest.fixture
def mixed() -> Fleet:
    """Four of A100, all there are, and of H100 what the load needs besides."""
    fleet = Fleet()
    fleet.run(CYCLES + 3)
    assert fleet.counts()["A100"] == 4
    assert fleet.counts()["H100"] > 0
    return fleet


def test_what_its_own_accelerator_has_no_cards_for_runs_on_another_beside_it() -> None:
    fleet = Fleet()
    assert fleet.capable() < 1
    for _ in range(CYCLES):
        assert fleet.counts() == {"A100": 4}
        fleet.cycle()
    assert fleet.counts()["H100"] > 0
    fleet.cycle()
    assert fleet.capable() >= 1
    before = fleet.counts()
    fleet.run(2 * CYCLES)
    assert fleet.counts() == before


def test_when_demand_falls_the_sibling_goes_and_its_deployment_with_it(mixed: Fleet) -> None:
    mixed.rate_rps = 30.0
    for _ in range(4 * CYCLES):
        mixed.cycle()
        assert mixed.capable() >= 1
    assert mixed.counts() == {"A100": 3}


def test_cheaper_cards_take_over_part_by_part_and_are_left_again_when_prices_turn() -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=7)
    for _ in range(2 * CYCLES + 2):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert fleet.counts()["H100"] == 3
    assert fleet.counts()["A100"] < 7
    fleet.h100_cost = 80.0
    for _ in range(3 * CYCLES + 4):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert "H100" not in fleet.counts()


@pytest.mark.parametrize("step", range(8))
def test_a_process_that_starts_anew_at_any_step_goes_on_and_never_serves_less(step: int) -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=7)
    fleet.run(2 * CYCLES + 2)
    fleet.h100_cost = 80.0
    fleet.run(step)
    fleet.restart()
    for _ in range(3 * CYCLES + 4):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert "H100" not in fleet.counts()


def test_siblings_whose_pods_never_start_are_taken_back_and_not_tried_for_a_while() -> None:
    fleet = Fleet(starts=False)
    fleet.run(CYCLES + 1)
    assert fleet.counts()["H100"] > 0
    fleet.run(8)
    assert fleet.counts() == {"A100": 4}
    assert HoldReason.SIBLING_FAILED in fleet.notes
    fleet.run(CYCLES + 3)
    assert fleet.counts() == {"A100": 4}


@pytest.mark.parametrize("forbids", [Forbids.DECREASE, Forbids.CHANGE])
def test_what_is_not_known_takes_no_sibling_away(mixed: Fleet, forbids: Forbids) -> None:
    before = mixed.counts()
    mixed.holds = (Hold(HoldReason.SIGNAL_MISSING, forbids, "no metrics"),)
    mixed.rate_rps = 10.0
    mixed.heterogeneous = False
    mixed.run(4 * CYCLES)
    assert mixed.counts()["H100"] == before["H100"]


def test_what_may_have_no_siblings_any_more_goes_home_first(mixed: Fleet) -> None:
    mixed.a100 = 12
    mixed.heterogeneous = False
    for _ in range(5):
        mixed.cycle()
        assert mixed.capable() >= 1
    assert "H100" not in mixed.counts()


@pytest.mark.parametrize("unknown", [False, True])
def test_another_pod_template_of_its_primary_is_given_to_a_sibling_once_it_rolled_out(
    mixed: Fleet, unknown: bool
) -> None:
    before = mixed.counts()
    mixed.rollable = replace(ROLLABLE, digest="another", settled=False)
    mixed.run(3)
    assert mixed.renewals == 0
    mixed.rollable = replace(mixed.rollable, settled=True)
    if unknown:
        mixed.holds = (Hold(HoldReason.SIGNAL_MISSING, Forbids.DECREASE, "no metrics"),)
    mixed.run(3)
    assert mixed.renewals == (0 if unknown else 1)
    assert mixed.counts() == before


def test_a_sibling_stays_while_its_own_accelerator_has_no_cards_to_take_over(
    mixed: Fleet,
) -> None:
    before = mixed.counts()
    mixed.heterogeneous = False
    mixed.run(3 * CYCLES)
    assert mixed.counts() == before


def test_a_selector_that_would_select_siblings_is_refused_with_its_reason() -> None:
    fleet = Fleet(rollable=replace(ROLLABLE, clash="its selector (app=chat) would"))
    fleet.run(CYCLES + 3)
    assert fleet.counts() == {"A100": 4}
    assert HoldReason.SIBLING_SELECTOR in fleet.notes
    kinds = {kind for each in fleet.refusals for kind in each.kinds}
    assert "sibling-selector" in kinds


def test_requests_spread_evenly_make_slow_replicas_count_for_no_more_than_they_can() -> None:
    """Slower and cheaper: where each gets what it can do they pay, in equal parts they do not."""
    by_capacity = Fleet(faster=0.8, even=False, h100_cost=15.0, a100=8, replicas=7, h100=3)
    by_capacity.run(2 * CYCLES + 2)
    assert by_capacity.counts().get("H100")
    evenly = Fleet(faster=0.8, even=True, h100_cost=15.0, a100=8, replicas=7, h100=3)
    evenly.run(2 * CYCLES + 2)
    assert evenly.counts() == {"A100": 5}


def test_a_mix_that_is_best_is_waited_for_though_the_whole_server_could_move() -> None:
    """Two of A100 and the rest of H100 cost less than all of H100, which would do, too."""
    fleet = Fleet(a100=2, h100=8, replicas=2, moving=True)
    fleet.run(2 * CYCLES)
    assert fleet.switched_to is None
    assert fleet.counts() == {"A100": 2, "H100": 3}


def test_a_server_that_can_have_no_siblings_moves_as_a_whole() -> None:
    clash = "its selector (app=chat) would select the pods of a sibling too"
    rollable = replace(ROLLABLE, clash=clash)
    fleet = Fleet(a100=2, h100=8, replicas=2, moving=True, rollable=rollable)
    fleet.run(3 * CYCLES)
    assert fleet.switched_to == "H100"
    assert fleet.counts() == {"A100": 2}


def test_a_solver_that_weighs_no_mixes_is_named() -> None:
    fleet = Fleet(solver="greedy")
    fleet.run(1)
    assert any("milpSolver weighs several" in note for note in fleet.remarks)
    assert fleet.counts() == {"A100": 4}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("a100", [4, 12])
def test_a_sibling_on_an_accelerator_that_the_data_lost_goes_once_its_own_do_and_spoils_no_answer(
    mixed: Fleet, a100: int
) -> None:
    mixed.a100, mixed.forgotten = a100, "H100"
    for _ in range(CYCLES + 3):
        mixed.cycle()
        assert not mixed.remarks
        # Whatever it does for the load, the data says no more: it counts as nothing.
        assert "H100" in mixed.counts() or mixed.capable() >= 1
    assert mixed.counts() == ({"A100": 4, "H100": 1} if a100 == 4 else {"A100": 5})


@pytest.mark.parametrize("capacity", [(4, 0), (2, 1), (0, 0)])
def test_fewer_cards_take_nothing_away(mixed: Fleet, capacity: tuple[int, int]) -> None:
    before = mixed.counts()
    mixed.a100, mixed.h100 = capacity
    mixed.overdrawn = True
    mixed.run(2 * CYCLES)
    assert mixed.counts() == before


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("heterogeneous", [True, False])
def test_pods_that_were_ready_and_are_not_now_are_no_bad_start_and_stay(
    mixed: Fleet, anew: bool, heterogeneous: bool
) -> None:
    """Their node may just not tell of them, as in a partition of the cluster's network."""
    before = mixed.counts()
    mixed.silent, mixed.heterogeneous = True, heterogeneous
    if anew:
        mixed.restart()
    mixed.run(12)
    assert mixed.counts() == before
    if heterogeneous:
        assert HoldReason.SIBLING_FAILED in mixed.notes


def test_a_sibling_that_was_whole_stays_while_its_pods_are_made_anew_elsewhere(
    mixed: Fleet,
) -> None:
    before = mixed.counts()
    (name,) = mixed.deployments.keys() - {"chat"}
    mixed.deployments[name] = replace(mixed.deployments[name], ready_replicas=0)
    mixed.starts = False
    mixed.run(12)
    assert mixed.counts() == before


def test_a_sibling_that_cannot_be_made_is_told_and_not_tried_for_a_while() -> None:
    fleet = Fleet(refused=True)
    fleet.run(CYCLES)
    made = [bool(fleet.cycle().patches) for _ in range(10)]
    assert made == 5 * [True] + 5 * [False]
    assert HoldReason.SIBLING_FAILED in fleet.notes


def test_in_a_dry_run_nothing_that_is_not_made_is_a_failure() -> None:
    fleet = Fleet(refused=True, written=False)
    fleet.run(CYCLES)
    assert all(fleet.cycle().patches for _ in range(10))


def test_what_is_remembered_of_siblings_goes_with_them() -> None:
    fleet = Fleet(starts=False)
    fleet.run(CYCLES + 8)
    memory = fleet.policy._memory
    assert memory.failure("chat", fleet.now)
    fleet.policy.shape(Situation(fleet.now, 0.0, System(), {}, Observation(fleet.now)))
    assert not any(vars(memory)[each] for each in vars(memory) if each not in NUMBERS)


def test_replicas_that_a_sibling_is_to_lose_rest_on_what_it_said_of_itself(mixed: Fleet) -> None:
    (name,) = mixed.deployments.keys() - {"chat"}
    labels = {"inferno.server.name": "chat"}
    mixed.deployments[name] = replace(mixed.deployments[name], labels=labels)
    mixed.a100, mixed.heterogeneous = 12, False
    patches = [patch for _ in range(4) for patch in mixed.cycle().patches]
    (down,) = [each for each in patches if each.replicas == 0 and not each.removes]
    assert down.rests_on == labels


def test_a_most_of_replicas_takes_nothing_away_before_what_replaces_it_is_ready() -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=5)
    fleet.deployments["chat"] = replace(fleet.deployments["chat"], max_replicas=5)
    fleet.run(CYCLES)
    fleet.starts = False
    fleet.run(3)
    assert fleet.counts() == {"A100": 5, "H100": 3}
    fleet.starts = True
    fleet.run(2)
    assert fleet.counts() == {"A100": 2, "H100": 3}
    fleet.heterogeneous = False
    for _ in range(5):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert fleet.counts() == {"A100": 5}


def test_of_a_name_that_two_claim_no_sibling_changes(mixed: Fleet) -> None:
    siblings = tuple(each for name, each in mixed.deployments.items() if name != "chat")
    both = (
        ServerObservation(mixed.deployments["chat"], siblings=siblings),
        ServerObservation(replace(mixed.deployments["chat"], ref=WorkloadRef("ns", "b", "u", "1"))),
    )
    mixed.heterogeneous = False
    seen = Observation(mixed.now, both)
    situation = Situation(mixed.now, 0.0, mixed.system, {"chat": ()}, seen)
    for _ in range(CYCLES):
        problem = mixed.policy.shape(situation)
        decided = mixed.policy.steady(problem, mixed.planner.solve(problem))
        assert not any(each.siblings for each in decided.decisions)


def test_an_optimizer_that_fails_fails_the_cycle_and_the_next_goes_on(mixed: Fleet) -> None:
    before = mixed.counts()
    mixes = mixed.policy._choice._trial

    def fails(_: Problem) -> Solution:
        raise RuntimeError("no answer")

    mixed.policy._choice._trial = fails
    with pytest.raises(RuntimeError):
        mixed.cycle()
    mixed.policy._choice._trial = mixes
    mixed.run(CYCLES)
    assert mixed.counts() == before


def test_a_dip_shorter_than_the_down_window_takes_nothing_from_a_sibling() -> None:
    """Its own replicas are at their least: the window of those does not speak here."""
    fleet = Fleet(h100=4, h100_cost=10.0, rate_rps=56.0, replicas=4, down_window_s=600.0)
    fleet.run(2 * CYCLES + 2)
    assert fleet.counts() == {"A100": 1, "H100": 4}
    fleet.rate_rps = 25.0
    fleet.run(5)
    fleet.rate_rps = 10.0
    fleet.run(5)
    assert fleet.counts() == {"A100": 1, "H100": 4}
    # The most that was asked for within the window, not what is asked at its end.
    fleet.run(2)
    assert fleet.counts() == {"A100": 1, "H100": 3}
    fleet.run(12)
    assert fleet.counts() == {"A100": 1, "H100": 1}
