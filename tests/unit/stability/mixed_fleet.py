"""A fleet of numbers for tests of mixes: the real planner, policies and plan, no cluster."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.cards import CardCounter
from controlloop.api.decision import Patch, Plan, Refusal, Situation
from controlloop.api.holds import Hold, HoldReason
from controlloop.api.observation import (
    Kinship,
    Observation,
    Pod,
    ServerObservation,
    Workload,
    WorkloadRef,
)
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


def mixed_fleet() -> Fleet:
    """Four of A100, all there are, and of H100 what the load needs besides."""
    fleet = Fleet()
    fleet.run(CYCLES + 3)
    assert fleet.counts()["A100"] == 4
    assert fleet.counts()["H100"] > 0
    return fleet
