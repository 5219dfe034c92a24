"""Makes up systems of any size: plausible, and equal for equal seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.cards import CardCounter
from controlloop.api.system import (
    Accelerator,
    Load,
    OptimizerOptions,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.errors import InputError, Problem
from controlloop.optimizer.catalog import (
    Card,
    Model,
    accelerator,
    card,
    performance,
    units_needed,
)
from controlloop.optimizer.solving import optimize
from controlloop.optimizer.what_if import with_allocations
from controlloop.units import rps_from_rpm

DEFAULT_SCARCITY: Final = 0.8
LARGEST_FLEET: Final = 100_000
MOST_ACCELERATORS: Final = 500
MOST_MODELS: Final = 500
_SIZES: Final = (1, 2, 4, 8)
# Replicas of more cards than this are made up only where nothing smaller holds the model.
_MOST_CARDS: Final = 16
_MOST_INPUT: Final = 4096
# Priority, share of servers, which of the accelerators (from the fastest) the targets are made
# for, how much slower than a lone request there they may be (ITL, TTFT), and the least TTFT in ms
# that anybody asks for.
_CLASSES: Final = (
    ("Premium", 0.3, 0.2, 1.5, 2.0, 200.0),
    ("Standard", 0.4, 0.5, 2.0, 4.0, 500.0),
    ("Free", 0.3, 0.8, 3.0, 8.0, 1500.0),
)


@dataclass(frozen=True, slots=True)
class Size:
    """What to make up.

    Attributes:
        servers: how many.
        accelerators: how many.
        models: how many; None is one for four servers, at most 20.
        seed: equal seeds and sizes give equal systems.
        scarcity: cards that the cheapest allocations take in all, as a share of those there
            are, by type: 1 is just enough, 2 half of it.

    """

    servers: int
    accelerators: int
    models: int | None = None
    seed: int = 1
    scarcity: float = DEFAULT_SCARCITY


def generate(size: Size) -> System:
    """A system in which every server could be served, if cards were no matter.

    Most servers run what suited an earlier load; some are new, a few have no load.

    Raises:
        InputError: every number that is out of its range.

    """
    _check(size)
    random = np.random.default_rng(size.seed)
    cards, accelerators = _accelerators(size.accelerators, random)
    models = _models(size.models or min(max(size.servers // 4, 1), 20), random)
    perf = _performance(models, cards)
    system = System(
        accelerators=tuple(accelerators),
        perf=tuple(perf),
        classes=_classes(models, perf),
        servers=_servers(size.servers, models, random),
        options=OptimizerOptions(unlimited=True),
    )
    system = _with_history(system, random)
    capacity = _capacity(system, size.scarcity)
    return replace(system, capacity=capacity, options=OptimizerOptions())


def _check(size: Size) -> None:
    problems = []
    for name, value, least, most in (
        ("servers", size.servers, 0, LARGEST_FLEET),
        ("accelerators", size.accelerators, 1, MOST_ACCELERATORS),
        ("models", size.models, 1, MOST_MODELS),
        ("seed", size.seed, 0, 2**63 - 1),
    ):
        if value is not None and not least <= value <= most:
            problems.append(Problem(name, f"must be from {least} to {most}", str(value)))
    if not (math.isfinite(size.scarcity) and size.scarcity > 0):
        problems.append(Problem("scarcity", "must be a number > 0", f"{size.scarcity:g}"))
    if problems:
        raise InputError(problems)


def _accelerators(
    count: int, random: np.random.Generator
) -> tuple[list[tuple[Card, int]], list[Accelerator]]:
    """Types of cards in units of one, two, four and eight; larger units come last."""
    types = math.ceil(count / 3) if count > 2 else 1
    pool = max(types, 8)
    numbers = sorted(random.choice(pool, size=types, replace=False).tolist())
    ranked = [(card(number), size) for size in _SIZES for number in numbers][:count]
    ranked.sort(key=lambda each: (each[0].cost_per_hour, each[1]))
    return ranked, [accelerator(*each) for each in ranked]


def _models(count: int, random: np.random.Generator) -> list[Model]:
    """Models from 1 to 200 billion parameters, small ones more often."""
    sizes = np.exp(random.uniform(np.log(1.0), np.log(200.0), count) * random.beta(4, 2, count))
    digits = len(str(count))
    return [
        Model(
            name=f"model-{at + 1:0{digits}}-{_billions(size)}b",
            parameters_b=float(_billions(size)),
            kv_bytes=1024 * round(128 * (size / 8) ** 0.45),
        )
        for at, size in enumerate(sizes.tolist())
    ]


def _billions(size: float) -> str:
    return f"{size:.2g}" if size < 100 else f"{size:.0f}"


def _performance(models: list[Model], cards: list[tuple[Card, int]]) -> list[PerfParameters]:
    found = []
    for model in models:
        units = [units_needed(model, *each) for each in cards]
        needed = [count * each[1] for count, each in zip(units, cards, strict=True)]
        most = max(_MOST_CARDS, min(needed))
        found += [
            performance(model, *each, count)
            for each, count, total in zip(cards, units, needed, strict=True)
            if total <= most
        ]
    return found


def _classes(models: list[Model], perf: list[PerfParameters]) -> tuple[ServiceClass, ...]:
    """Targets that one accelerator of each model meets for certain, and others perhaps."""
    targets: dict[str, list[Target]] = {name: [] for name, *_ in _CLASSES}
    for model in models:
        mine = sorted((p.parameters for p in perf if p.model == model.name), key=lambda p: p[0])
        for name, _, rank, itl, ttft, least_ttft in _CLASSES:
            alpha, beta, gamma, delta = mine[int(rank * len(mine))]
            targets[name].append(
                Target(
                    model.name,
                    itl_ms=5.0 * math.ceil(itl * (alpha + beta) / 5),
                    ttft_ms=max(
                        50.0 * math.ceil(ttft * (gamma + delta * _MOST_INPUT) / 50), least_ttft
                    ),
                )
            )
    return tuple(
        ServiceClass(name, at + 1, tuple(targets[name])) for at, (name, *_) in enumerate(_CLASSES)
    )


def _servers(count: int, models: list[Model], random: np.random.Generator) -> tuple[Server, ...]:
    shares = [share for _, share, *_ in _CLASSES]
    chosen = random.choice(len(_CLASSES), size=count, p=shares)
    model = random.integers(len(models), size=count)
    rate_rpm = np.round(np.clip(random.lognormal(np.log(300), 1.2, count), 1, 30_000))
    rate_rpm[random.random(count) < 0.03] = 0.0
    tokens_in = np.round(np.clip(random.lognormal(np.log(512), 0.8, count), 16, _MOST_INPUT))
    tokens_out = np.round(np.clip(random.lognormal(np.log(256), 0.7, count), 16, 2048))
    least = np.where(chosen == 0, 1, random.integers(0, 2, count))
    digits = len(str(count))
    return tuple(
        Server(
            name=f"server-{at + 1:0{digits}}",
            model=models[int(model[at])].name,
            service_class=_CLASSES[int(chosen[at])][0],
            min_replicas=int(least[at]),
            current=replace(
                Server("", "").current,
                load=Load(rps_from_rpm(rate_rpm[at]), float(tokens_in[at]), float(tokens_out[at])),
            ),
        )
        for at in range(count)
    )


def _with_history(system: System, random: np.random.Generator) -> System:
    """Servers run what was right for an earlier load, but for those that are new."""
    count = len(system.servers)
    drift = random.uniform(0.5, 1.4, count)
    earlier = tuple(
        replace(each, current=replace(each.current, load=_scaled(each.current.load, factor)))
        for each, factor in zip(system.servers, drift.tolist(), strict=True)
    )
    then = with_allocations(
        replace(system, servers=earlier), optimize(replace(system, servers=earlier))
    )
    new = random.random(count) < 0.15
    stays = random.random(count) < 0.1
    servers = tuple(
        now
        if is_new
        else replace(
            now,
            keep_accelerator=bool(stay and old.current.replicas),
            current=replace(old.current, load=now.current.load),
        )
        for now, old, is_new, stay in zip(
            system.servers, then.servers, new.tolist(), stays.tolist(), strict=True
        )
    )
    return replace(system, servers=servers)


def _scaled(load: Load, factor: float) -> Load:
    return replace(load, rate_rps=load.rate_rps * factor)


def _capacity(system: System, scarcity: float) -> dict[str, int]:
    """Cards by type, so many that the cheapest allocations take the share `scarcity` of them."""
    used = CardCounter(system).used(optimize(system).allocations)
    types = dict.fromkeys(each.type for each in system.accelerators)
    # A type that is nobody's first choice is there as well, in small numbers.
    rest = math.ceil(0.25 * used.total() / max(len(types), 1))
    return {each: math.ceil((used[each] or rest) / scarcity) for each in types}
