"""Joint allocations within capacity, whatever happens: the policy and the real planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Action, Decision, Decisions, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Present
from controlloop.api.replicas import Analysis, FloatArray, Replicas, Sizing, Targets
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.system import (
    DEFAULT_QUEUE_MODEL,
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    PerfParameters,
    SaturationPolicy,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.optimizer.needs import replicas_needed
from controlloop.optimizer.planner import Planner
from controlloop.protocols import QueueModel
from controlloop.queueing.models import queue_models
from controlloop.stability.bounds import Bounds
from controlloop.stability.fitting import within_capacity
from controlloop.stability.giving_way import Claim, who_gives_way
from controlloop.stability.options import Direction, Panic, Steps, WindowOptions
from controlloop.stability.windows import WindowsPolicy

PERIOD_S = 60.0
CATALOG = System(
    accelerators=(Accelerator("A", "A", 1, 10.0), Accelerator("2xB", "B", 2, 30.0)),
    perf=(
        PerfParameters("m", "A", (10.0, 1.0, 20.0, 0.01), 8, 100),
        PerfParameters("n", "2xB", (12.0, 1.0, 20.0, 0.01), 8, 100),
    ),
    classes=tuple(
        ServiceClass(f"class{at}", at, (Target("m", 60.0, 2000.0), Target("n", 60.0, 2000.0)))
        for at in (1, 2, 3)
    ),
)
PLACES = {"m": "A", "n": "2xB"}
SERVERS = {"a1": ("m", 1), "a2": ("m", 2), "a3": ("m", 3), "a4": ("m", 3), "b1": ("n", 1),
           "b2": ("n", 2)}  # fmt: skip


class Once:
    """A queue model that is asked each question once: here its answers count, not their making."""

    def __init__(self, model: QueueModel) -> None:
        self.name, self.parameter_names = model.name, model.parameter_names
        self._model, self._answers = model, dict[Any, Any]()

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        return self._model.rate_range_rps(replicas)

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        answer: Analysis = self._once(self._model.analyze, replicas, rate_rps)
        return answer

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        answer: Sizing = self._once(self._model.size, replicas, targets)
        return answer

    def _once(self, ask: Callable[..., Any], *asked: Any) -> Any:
        question = (ask.__name__, *(each for one in asked for each in numbers(one)))
        if question not in self._answers:
            self._answers[question] = ask(*asked)
        return self._answers[question]


def numbers(asked: Any) -> tuple[bytes, ...]:
    if isinstance(asked, np.ndarray):
        return (asked.tobytes(),)
    return tuple(getattr(asked, each.name).tobytes() for each in fields(asked))


@pytest.fixture(scope="module")
def model() -> QueueModel:
    return Once(queue_models().create(DEFAULT_QUEUE_MODEL))


class World:
    """Servers on two card types, under loads, holds and capacities drawn at random."""

    def __init__(
        self, seed: int, model: QueueModel, servers: Collection[str] = tuple(SERVERS)
    ) -> None:
        self.random = random = Random(seed)
        self.servers = {name: SERVERS[name] for name in sorted(servers)}
        ways = [
            Direction(
                window_s=random.choice([0.0, 120.0, 300.0]),
                tolerance=random.choice([0.0, 0.1]),
                steps=Steps(random.choice([0, 1, 2]), random.choice([0.0, 0.5])),
                cooldown_s=random.choice([0.0, 120.0]),
            )
            for _ in range(2)
        ]
        options = WindowOptions(up=ways[0], down=ways[1], panic=Panic(waiting=2.0))
        self.policy = WindowsPolicy(
            Bounds(), options, partial(replicas_needed, model_of=lambda _: model)
        )
        self.planner = Planner(lambda _: model)
        self.options = OptimizerOptions(saturation_policy=random.choice(list(SaturationPolicy)))
        self.replicas = {name: random.randint(1, 4) for name in self.servers}
        self.capacity = {"A": random.randint(8, 24), "B": random.randint(8, 20)}
        self.now = 0.0

    def system(self) -> System:
        random = self.random
        servers = tuple(
            Server(
                name, model, f"class{priority}",
                current=Allocation(
                    PLACES[model], self.replicas[name], 8, 10.0 * self.replicas[name],
                    load=Load(random.choice([0.0, 1.0, 3.0, 6.0, 12.0, 40.0]), 50.0, 100.0),
                ),
                backlog_rps=random.choice([0.0, 0.0, 1.0]),
            )
            for name, (model, priority) in self.servers.items()
        )  # fmt: skip
        return replace(CATALOG, servers=servers, capacity=self.capacity, options=self.options)

    def observation(self, system: System) -> Observation:
        random = self.random
        return Observation(
            self.now,
            tuple(
                ServerObservation(
                    Workload(
                        WorkloadRef("ns", each.name), each.name, each.model, each.service_class,
                        each.current.accelerator, 8, each.current.replicas,
                        ready_replicas=each.current.replicas - random.choice([0, 0, 0, 1]),
                        max_replicas=random.choice([None, None, 6]),
                    ),
                    Signals(waiting=Present(random.choice([0.0, 0.0, 0.0, 30.0]))),
                )
                for each in system.servers
            ),
        )  # fmt: skip

    def holds(self) -> tuple[Hold, ...]:
        if self.random.random() < 0.7:
            return ()
        return (Hold(HoldReason.POD_GONE, self.random.choice(list(Forbids)), "drawn"),)

    def cycle(self) -> tuple[System, Problem, Decisions]:
        random = self.random
        if random.random() < 0.1:
            self.capacity = {"A": random.randint(2, 24), "B": random.randint(2, 20)}
        self.now += PERIOD_S
        system = self.system()
        holds = {name: self.holds() for name in self.servers}
        situation = Situation(self.now, 0.0, system, holds, self.observation(system))
        problem = self.policy.shape(situation)
        decided = self.policy.steady(problem, self.planner.solve(problem))
        for each in decided.decisions:
            # Now and then a patch fails, and now and then somebody else scales.
            if random.random() < 0.95:
                self.replicas[each.server] = each.desired.replicas
        return system, problem, decided


def check(system: System, problem: Problem, decided: Decisions) -> Counter[str]:
    """What every cycle promises; which holds stood."""
    counter = CardCounter(system)
    before = counter.used({each.server: each.current for each in decided.decisions})
    after = counter.used({each.server: each.desired for each in decided.decisions})
    for kind, cards in system.capacity.items():
        assert after[kind] <= max(cards, before[kind])
        if after[kind] > cards:
            grown = [each for each in decided.decisions if each.action is Action.SCALE_UP]
            assert not any(PLACES[SERVERS[each.server][0]].endswith(kind) for each in grown)
    for each in decided.decisions:
        if any(hold.forbids is Forbids.CHANGE for hold in problem.holds[each.server]):
            assert each.desired.replicas == each.current.replicas
        for hold in problem.holds[each.server]:
            way = Forbids.DECREASE if hold.forbids is Forbids.DECREASE else Forbids.INCREASE
            moved = (each.desired.replicas < each.current.replicas) is (way is Forbids.DECREASE)
            if moved and each.desired.replicas != each.current.replicas:
                assert not hold.binds(way, each.current.replicas, each.desired.replicas)
    return Counter(str(hold.reason) for holds in problem.holds.values() for hold in holds)


def run(world: World, cycles: int) -> tuple[Counter[str], Counter[Action]]:
    seen: Counter[str] = Counter()
    actions: Counter[Action] = Counter()
    for _ in range(cycles):
        system, problem, decided = world.cycle()
        seen += check(system, problem, decided)
        actions.update(each.action for each in decided.decisions)
        seen.update("gives-way" for _ in problem.remarks)
    return seen, actions


def test_the_joint_allocation_stays_within_capacity(model: QueueModel) -> None:
    seen: Counter[str] = Counter()
    actions: Counter[Action] = Counter()
    for seed in range(8):
        holds, acted = run(World(seed, model), 25)
        seen += holds
        actions += acted
    assert {Action.SCALE_UP, Action.SCALE_DOWN, Action.HOLD} <= actions.keys()
    assert {"down-window", "step-limit", "overload", "gives-way"} <= seen.keys()


@pytest.mark.slow
def test_the_joint_allocation_stays_within_capacity_in_ten_thousand_cycles(
    model: QueueModel,
) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=100)
    @given(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(sorted(SERVERS)), min_size=2))
    def a_hundred_cycles(seed: int, servers: set[str]) -> None:
        seen.update(run(World(seed, model, servers), 100)[0])

    a_hundred_cycles()
    assert {"down-window", "step-limit", "overload", "cooldown", "gives-way"} <= seen.keys()


# --- who gives way


def claim(server: str, priority: int, current: int, needed: int, kept: int) -> Claim:
    return Claim(server, priority, "A", 1, current, needed, kept)


def test_windows_give_way_from_the_lowest_priority_up_and_only_as_far_as_it_takes() -> None:
    grows = claim("grows", 2, 4, 9, 9)
    rivals = [claim("high", 1, 6, 2, 6), claim("low", 9, 6, 2, 6), claim("mid", 5, 6, 2, 6)]
    assert who_gives_way([grows, *rivals], {"A": 27}) == {}
    assert who_gives_way([grows, *rivals], {"A": 23}) == {"low": ("grows",)}
    both = {"low": ("grows",), "mid": ("grows",)}
    assert who_gives_way([grows, *rivals], {"A": 22}) == both


def test_fewer_cards_alone_make_nobody_give_way() -> None:
    assert who_gives_way([claim("a", 1, 6, 2, 6), claim("b", 9, 6, 2, 6)], {"A": 4}) == {}


def test_the_decision_names_whom_a_window_gives_way_to(model: QueueModel) -> None:
    world = World(1, model)
    options = WindowOptions(down=Direction(window_s=300.0))
    world.policy = WindowsPolicy(Bounds(), options, replicas_needed)
    world.capacity = {"A": 10, "B": 0}

    def cycle(rates: dict[str, float]) -> dict[str, Decision]:
        world.now += PERIOD_S
        servers = tuple(
            Server(
                name,
                "m",
                f"class{SERVERS[name][1]}",
                current=Allocation("A", world.replicas[name], 8, load=Load(rate, 50.0, 100.0)),
            )
            for name, rate in rates.items()
        )
        system = replace(CATALOG, servers=servers, capacity=world.capacity)
        seen = tuple(
            ServerObservation(
                Workload(
                    WorkloadRef("ns", each.name), each.name, "m", each.service_class, "A", 8,
                    world.replicas[each.name], ready_replicas=world.replicas[each.name],
                )
            )
            for each in servers
        )  # fmt: skip
        situation = Situation(
            world.now, -1e6, system, dict.fromkeys(rates, ()), Observation(world.now, seen)
        )
        problem = world.policy.shape(situation)
        decided = world.policy.steady(problem, world.planner.solve(problem)).decisions
        world.replicas |= {each.server: each.desired.replicas for each in decided}
        return {each.server: each for each in decided}

    alone = Server("x", "m", "class1", current=Allocation("A", 1, 8, load=Load(1.0, 50.0, 100.0)))
    one = 1.0 / replicas_needed(replace(CATALOG, servers=(alone,)))["x"]
    world.replicas = {"a1": 4, "a3": 6}
    for _ in range(8):
        cycle({"a1": 3.5 * one, "a3": 5.5 * one})
    assert world.replicas == {"a1": 4, "a3": 6}
    quiet = cycle({"a1": 3.5 * one, "a3": 1.5 * one})["a3"]
    assert (quiet.action, quiet.desired.replicas) == (Action.HOLD, 6)
    decided = cycle({"a1": 7.5 * one, "a3": 1.5 * one})
    assert decided["a1"].desired.replicas == 8
    assert decided["a3"].desired.replicas == 2
    assert "cards are short: down-window gives way to a1" in decided["a3"].reason


# --- the last check


def test_growth_that_does_not_fit_is_undone_from_the_lowest_priority_up() -> None:
    def change(server: str, before: int, after: int) -> Decision:
        action = Action.SCALE_UP if after > before else Action.KEEP
        return Decision(
            server, action, Allocation("A", before, 8), Allocation("A", after, 8), "wanted"
        )

    servers = tuple(Server(name, "m", f"class{at}") for name, (_, at) in SERVERS.items())
    system = replace(CATALOG, servers=servers, capacity={"A": 12})
    asked = (change("a1", 2, 5), change("a2", 2, 5), change("a3", 2, 5))
    high, mid, low = within_capacity(asked, system)
    assert (high.desired.replicas, mid.desired.replicas, low.desired.replicas) == (5, 5, 2)
    assert (low.action, low.holds[-1].reason) == (Action.HOLD, HoldReason.NO_CAPACITY)
    crowded = replace(system, capacity={"A": 3})
    kept = within_capacity((change("a1", 2, 5), change("a2", 4, 4)), crowded)
    assert [each.desired.replicas for each in kept] == [2, 4]


def test_a_solver_that_ignores_the_cards_is_not_obeyed(model: QueueModel) -> None:
    class Greedy(Planner):
        def solve(self, problem: Problem) -> Solution:
            found = {
                each.name: replace(each.current, replicas=9) for each in problem.system.servers
            }
            short = (Unserved("a1", UnservedReason.NO_CAPACITY, ""),)
            return Solution(found, short, SolveStatus.FEASIBLE, "mine", 0.0)

    world = World(3, model)
    world.planner = Greedy()
    for _ in range(30):
        check(*world.cycle())
