"""Random systems of the optimizer's laboratory, small enough to look at all solutions."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from controlloop.api.system import ServiceClass, System, Target, Variant


def small_system(
    lab: Any, chance: int | random.Random, *, servers: int = 5, **options: Any
) -> System:
    """Up to `servers` servers, 3 or 4 accelerators of 1 to 3 types, and too few cards."""
    rng = random.Random(chance) if isinstance(chance, int) else chance
    kinds = ["t", "u", "v"][: rng.randint(1, 3)]
    accelerators = [
        lab.accelerator(
            f"A{at}",
            float(rng.randint(8, 24)) / 4,
            kind=rng.choice(kinds),
            cards=rng.choice([1, 1, 2]),
        )
        for at in range(rng.randint(3, 4))
    ]
    perf = [
        lab.perf(
            model,
            each.name,
            rate_rps=rng.choice([0.5, 1.0, 1.5, 2.25, 3.5]),
            latency_ms=rng.choice([10.0] * 9 + [60.0]),
            accelerators_per_replica=rng.choice([1, 1, 2]),
        )
        for model in "mn"
        for each in accelerators
        if rng.random() < 0.95
    ]
    classes = [
        ServiceClass(
            f"class{at}",
            at,
            tuple(Target(m, itl_ms=40.0, tps=rng.choice([0, 0, 0, 170.0])) for m in "mn"),
        )
        for at in (1, 2, 3)
    ]
    models = sorted({each.model for each in perf})
    count = rng.randint(servers // 2, servers)
    many = (
        [_server(lab, rng, f"s{at}", models, accelerators) for at in range(count)] if perf else []
    )
    types = {each.type for each in accelerators}
    capacity = {kind: rng.randint(0, 2 + 4 * count) for kind in types}
    return lab.system(  # type: ignore[no-any-return]
        accelerators, perf, many, capacity, classes, **options
    )


def contested_system(lab: Any, seed: int, servers: int = 14, **options: Any) -> System:
    """More servers on 6 accelerators of 3 types, of whose cards there are just too few."""
    rng = random.Random(1000 + seed)
    kinds = ["t", "u", "v"]
    accelerators = [
        lab.accelerator(f"A{at}", rng.uniform(1.0, 6.0), kind=kinds[at // 2], cards=1 + at % 2)
        for at in range(6)
    ]
    perf = [
        lab.perf(model, each.name, rate_rps=rng.uniform(0.6, 1.4) * (1 + 0.9 * (at % 2)))
        for model in "mnop"
        for at, each in enumerate(accelerators)
    ]
    many = [
        lab.server(
            f"s{at:02}",
            rng.uniform(0.3, 6.0),
            model=rng.choice("mnop"),
            priority=rng.randint(1, 3),
            runs=(rng.choice(accelerators).name, rng.randint(1, 3)),
            cost=rng.uniform(2.0, 15.0),
        )
        for at in range(servers)
    ]
    capacity = {kind: rng.randint(servers // 2, 2 * servers) for kind in kinds}
    return lab.system(accelerators, perf, many, capacity, **options)  # type: ignore[no-any-return]


def _server(lab: Any, rng: random.Random, name: str, models: list[str], accelerators: Any) -> Any:
    runs = rng.random() < 0.4
    accelerator, replicas = rng.choice(accelerators), rng.randint(1, 3)
    # Mostly what it does cost, sometimes not.
    cost = replicas * accelerator.cost_per_hour * rng.choice([1, 1, 1, 0.5, 2.0])
    server = lab.server(
        name,
        rng.choice([0.0, 1.7, 3.0, 4.1, 4.6, 5.5]),
        model=rng.choice(models),
        priority=rng.choice([1, 1, 2, 2, 3]),
        runs=(accelerator.name, replicas) if runs else ("", 0),
        cost=cost if runs else 0.0,
        min_replicas=rng.choice([0, 0, 1, 2]),
        keep_accelerator=rng.random() < 0.15,
    )
    if not runs or rng.random() < 0.7:
        return server
    other = rng.choice([each for each in accelerators if each is not accelerator])
    variants = (
        Variant(accelerator.name, replicas, 8, cost),
        Variant(other.name, 1, 8, other.cost_per_hour),
    )
    return replace(server, current=replace(server.current, variants=variants))
