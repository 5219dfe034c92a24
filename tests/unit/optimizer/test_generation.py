from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.api.cards import CardCounter
from controlloop.api.convert import spec_from_system, system_from_spec
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.references import check_references
from controlloop.api.specs import SystemData
from controlloop.api.system import System
from controlloop.errors import InputError
from controlloop.optimizer import optimize
from controlloop.optimizer.generation import Size, generate

sizes = st.builds(
    Size,
    servers=st.integers(0, 40),
    accelerators=st.integers(1, 40),
    models=st.none() | st.integers(1, 12),
    seed=st.integers(0, 2**63 - 1),
    scarcity=st.floats(0.1, 5.0),
)


@given(sizes)
@settings(max_examples=40)
def test_systems_are_of_the_size_asked_for_and_good_input(size: Size) -> None:
    system = generate(size)
    assert len(system.servers) == size.servers
    assert len(system.accelerators) == size.accelerators
    if size.models is not None:
        assert len({perf.model for perf in system.perf}) == size.models
    document = spec_from_system(system).document()
    again = system_from_spec(read(SystemData, document, unknown=UnknownKeys.REJECT))
    assert spec_from_system(again).document() == document
    assert check_references(system) == ()


@given(sizes)
@settings(max_examples=25)
def test_every_server_can_be_served_where_cards_are_no_matter(size: Size) -> None:
    system = generate(size)
    unlimited = replace(system, options=replace(system.options, unlimited=True))
    assert optimize(unlimited).unserved == ()


@given(sizes)
@settings(max_examples=15)
def test_equal_seeds_and_sizes_give_equal_systems(size: Size) -> None:
    assert generate(size) == generate(size)


def test_another_seed_gives_another_system() -> None:
    systems = [generate(Size(12, 8, seed=seed)) for seed in (1, 2, 3)]
    assert systems[0] != systems[1] != systems[2] != systems[0]


def used(system: System) -> dict[str, int]:
    """Cards that the cheapest allocations take."""
    unlimited = replace(system, options=replace(system.options, unlimited=True))
    return dict(CardCounter(system).used(optimize(unlimited).allocations))


@pytest.mark.parametrize("scarcity", [0.5, 1.0, 2.0])
def test_scarcity_is_the_share_of_the_cards_that_the_cheapest_allocations_take(
    scarcity: float,
) -> None:
    system = generate(Size(60, 12, seed=5, scarcity=scarcity))
    taken = used(system)
    assert taken
    for kind, cards in taken.items():
        assert system.capacity[kind] == math.ceil(cards / scarcity)
    served_whole = not optimize(system).unserved
    assert served_whole == (scarcity <= 1)


def test_systems_hold_what_real_ones_do() -> None:
    system = generate(Size(400, 12, models=8, seed=3))
    servers = system.servers
    assert {each.service_class for each in servers} == {"Premium", "Standard", "Free"}
    assert any(each.current.load.rate_rps == 0 for each in servers)
    assert any(not each.current.replicas for each in servers)
    assert any(each.keep_accelerator for each in servers)
    assert all(each.current.accelerator for each in servers if each.keep_accelerator)
    assert all(each.power.is_known for each in system.accelerators)
    assert len({each.accelerator for each in optimize(system).allocations.values()}) > 3


def test_the_formulas_are_those_of_the_shipped_sample(root: Any) -> None:
    from controlloop.api.files import read_folder
    from controlloop.optimizer.catalog import CARDS, Model, performance

    sample = system_from_spec(read_folder(root / "config" / "sample"))
    given_there = {(perf.model, perf.accelerator): perf for perf in sample.perf}
    cards = {each.name: each for each in CARDS}
    llama = Model("llama-3.1-8b", 8.03, 131072)
    for name in ("L4", "L40S", "A100", "H100"):
        made = performance(llama, cards[name], 1, 1)
        shipped = given_there["llama-3.1-8b", name]
        assert made.parameters == pytest.approx(shipped.parameters, rel=0.006)
        assert made.max_batch == pytest.approx(shipped.max_batch, abs=1)


@pytest.mark.parametrize(
    ("size", "errors"),
    [
        (Size(-1, 3), ["servers: must be from 0 to 100000, got -1"]),
        (Size(1, 0, models=0), ["accelerators: must be from 1", "models: must be from 1"]),
        (Size(1, 1, seed=-1), ["seed: must be from 0"]),
        (Size(1, 1, scarcity=0.0), ["scarcity: must be a number > 0, got 0"]),
        (Size(1, 1, scarcity=math.nan), ["scarcity: must be a number > 0, got nan"]),
    ],
)
def test_sizes_out_of_range_are_refused_all_at_once(size: Size, errors: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        generate(size)
    assert len(caught.value.problems) == len(errors)
    for error, problem in zip(errors, caught.value.problems, strict=True):
        assert error in str(problem)
