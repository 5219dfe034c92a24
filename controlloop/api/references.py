"""Names that lead nowhere, as warnings with what they lead to.

They are no errors: the documented API adds accelerators, models, classes and servers one by
one in any order, so that a name may be known only later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controlloop.api.system import NO_ACCELERATOR, Server, System

KEEPS: Final = "the server gets no allocation and keeps what it has"


@dataclass(frozen=True, slots=True)
class ReferenceWarning:
    """One name that leads nowhere: its place within its part of the data, what, and what then."""

    path: str
    what: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.consequence}"


@dataclass(frozen=True, slots=True)
class _Known:
    """What names lead to: accelerators, and for each model those that its data names."""

    accelerators: frozenset[str]
    classes: Mapping[str, frozenset[str]]
    perf: Mapping[str, frozenset[str]]


def check_references(system: System) -> tuple[ReferenceWarning, ...]:
    """Every name in `system` that leads nowhere, in the order of the parts and their entries."""
    perf: dict[str, frozenset[str]] = {}
    for each in system.perf:
        perf[each.model] = perf.get(each.model, frozenset()) | {each.accelerator}
    known = _Known(
        accelerators=frozenset(each.name for each in system.accelerators),
        classes={
            each.name: frozenset(target.model for target in each.targets) for each in system.classes
        },
        perf=perf,
    )
    return (
        *_capacity(system),
        *_perf(system, known),
        *_targets(system, known),
        *(found for i, server in enumerate(system.servers) for found in _server(known, server, i)),
    )


def _capacity(system: System) -> Iterator[ReferenceWarning]:
    types = {each.type for each in system.accelerators}
    for index, each in enumerate(system.accelerators):
        if each.type not in system.capacity and system.options.solver_name != "unlimited":
            yield ReferenceWarning(
                f"accelerators[{index}].type",
                f'there is no capacity of type "{each.type}"',
                f'nothing is allocated on "{each.name}"',
            )
    for index, type_ in enumerate(system.capacity):
        if type_ not in types:
            yield ReferenceWarning(
                f"count[{index}].type",
                f'no accelerator is of type "{type_}"',
                "these cards are not used",
            )


def _perf(system: System, known: _Known) -> Iterator[ReferenceWarning]:
    for index, each in enumerate(system.perf):
        if each.accelerator not in known.accelerators:
            yield ReferenceWarning(
                f"models[{index}].acc",
                f'there is no accelerator "{each.accelerator}"',
                f'"{each.model}" is not allocated on it',
            )


def _targets(system: System, known: _Known) -> Iterator[ReferenceWarning]:
    for at, service_class in enumerate(system.classes):
        for index, target in enumerate(service_class.targets):
            if target.model not in known.perf:
                yield ReferenceWarning(
                    f"serviceClasses[{at}].modelTargets[{index}].model",
                    f'there is no performance data of model "{target.model}"',
                    "this target has no effect",
                )


def _server(known: _Known, server: Server, index: int) -> Iterator[ReferenceWarning]:
    path = f"servers[{index}]"
    targets = known.classes.get(server.service_class)
    perf_on = known.perf.get(server.model, frozenset())
    if targets is None:
        what = f'there is no class "{server.service_class}"'
        yield ReferenceWarning(f"{path}.class", what, KEEPS)
    if not perf_on:
        what = f'there is no performance data of model "{server.model}"'
        yield ReferenceWarning(f"{path}.model", what, KEEPS)
    elif not perf_on & known.accelerators:
        what = f'the performance data of model "{server.model}" names no accelerator that exists'
        yield ReferenceWarning(f"{path}.model", what, KEEPS)
    elif targets is not None and server.model not in targets:
        what = f'class "{server.service_class}" has no target for model "{server.model}"'
        yield ReferenceWarning(f"{path}.model", what, KEEPS)
    runs_on = server.current.accelerator
    if runs_on == NO_ACCELERATOR:
        return
    if runs_on not in known.accelerators:
        what = f'there is no accelerator "{runs_on}"'
        then = KEEPS if server.keep_accelerator else "any allocation counts as a switch from it"
        yield ReferenceWarning(f"{path}.currentAlloc.accelerator", what, then)
    elif server.keep_accelerator and perf_on and runs_on not in perf_on:
        what = f'there is no performance data of model "{server.model}" on "{runs_on}"'
        yield ReferenceWarning(f"{path}.currentAlloc.accelerator", what, KEEPS)
