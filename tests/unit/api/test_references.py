"""Names that lead nowhere: each is told with what it leads to."""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.references import KEEPS, check_references
from controlloop.api.system import (
    Accelerator,
    Allocation,
    OptimizerOptions,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)

PERF = PerfParameters("m", "a", (1, 1, 1, 1), 8, 512)
GOOD = System(
    accelerators=(Accelerator("a", "t"), Accelerator("b", "t")),
    capacity={"t": 4},
    perf=(PERF,),
    classes=(ServiceClass("c", targets=(Target("m"),)),),
    servers=(Server("s", "m", "c"),),
)


def found(system: System) -> list[tuple[str, str]]:
    return [(each.path, each.consequence) for each in check_references(system)]


def with_server(**changes: object) -> System:
    return replace(GOOD, servers=(GOOD.servers[0], replace(GOOD.servers[0], **changes)))  # type: ignore[arg-type]


def test_a_system_whose_names_all_lead_somewhere_has_no_warnings() -> None:
    assert check_references(GOOD) == ()


def test_a_server_of_an_unknown_class_or_model_keeps_what_it_has() -> None:
    assert found(with_server(service_class="x")) == [("servers[1].class", KEEPS)]
    assert found(with_server(model="x")) == [("servers[1].model", KEEPS)]
    text = str(check_references(with_server(model="x"))[0])
    assert text == f'servers[1].model: there is no performance data of model "x"; {KEEPS}'


def test_a_class_without_a_target_for_the_servers_model_is_told_at_the_server() -> None:
    no_target = replace(GOOD, classes=(ServiceClass("c"),))
    assert found(no_target) == [("servers[0].model", KEEPS)]


def test_performance_data_on_an_unknown_accelerator_is_told() -> None:
    extra = replace(GOOD, perf=(PERF, replace(PERF, accelerator="x")))
    assert found(extra) == [("models[1].acc", '"m" is not allocated on it')]
    only = replace(GOOD, perf=(replace(PERF, accelerator="x"),))
    assert [path for path, _ in found(only)] == ["models[0].acc", "servers[0].model"]


def test_capacity_and_accelerators_must_meet() -> None:
    none = replace(GOOD, capacity={"u": 1})
    assert [path for path, _ in found(none)] == [
        "accelerators[0].type",
        "accelerators[1].type",
        "count[0].type",
    ]
    unlimited = replace(GOOD, capacity={}, options=OptimizerOptions(unlimited=True))
    assert found(unlimited) == []


def test_a_target_for_an_unknown_model_has_no_effect() -> None:
    classes = (ServiceClass("c", targets=(Target("m"), Target("x"))),)
    assert found(replace(GOOD, classes=classes)) == [
        ("serviceClasses[0].modelTargets[1].model", "this target has no effect")
    ]


def test_an_unknown_current_accelerator_matters_most_to_who_keeps_it() -> None:
    path = "servers[1].currentAlloc.accelerator"
    moved = with_server(current=Allocation("x", 1))
    assert found(moved) == [(path, "any allocation counts as a switch from it")]
    kept = with_server(current=Allocation("x", 1), keep_accelerator=True)
    assert found(kept) == [(path, KEEPS)]


def test_who_keeps_an_accelerator_without_performance_data_gets_nothing() -> None:
    path = "servers[1].currentAlloc.accelerator"
    on_b = Allocation("b", 1)
    assert found(with_server(current=on_b, keep_accelerator=True)) == [(path, KEEPS)]
    assert found(with_server(current=on_b)) == []
