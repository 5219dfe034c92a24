"""From custom resources to the system that an Optimizer decides over, or all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from controlloop.api.convert import system_from_spec
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.spec_types import Form
from controlloop.api.specs import (
    CapacityData,
    ModelAcceleratorPerfData,
    OptimizerSpec,
    ServerSpec,
    ServiceClassSpec,
    SystemData,
)
from controlloop.api.specs_template import AcceleratorObjectSpec, TemplateSpec
from controlloop.api.system import System
from controlloop.errors import InputError, Problem

Object = Mapping[str, Any]
AnyForm = TypeVar("AnyForm", bound=Form)
Key = tuple[str, str]
"""Kind and name of an object within its namespace."""

ACCELERATOR: Final = "Accelerator"
CAPACITY: Final = "Capacity"
MODEL: Final = "Model"
SERVICE_CLASS: Final = "ServiceClass"
SERVER: Final = "Server"
OPTIMIZER: Final = "Optimizer"


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the objects of one Optimizer say together.

    `system` is None where any object is bad: nothing is decided on half of the data. `problems`
    are in words, by object. `servers` names the object that each server of the system is.
    `templates` say what runs a server on an accelerator, by its name.
    """

    system: System | None
    problems: Mapping[Key, tuple[str, ...]]
    servers: Mapping[str, Key]
    templates: Mapping[str, TemplateSpec] = field(default_factory=dict)


def assemble_objects(optimizer: Object, objects: Iterable[Object]) -> Assembled:
    """The system of `optimizer` from the objects that belong to it, in the order of their names."""
    reader = _Reader()
    by_kind: dict[str, list[Object]] = {}
    for each in sorted(objects, key=lambda one: str(one["metadata"]["name"])):
        by_kind.setdefault(str(each["kind"]), []).append(each)
    accelerators = reader.forms(AcceleratorObjectSpec, by_kind.get(ACCELERATOR, ()))
    counts = [
        (key, count)
        for key, capacity in reader.forms(CapacityData, by_kind.get(CAPACITY, ()), named=False)
        for count in capacity.count
    ]
    perf = list(reader.perf(by_kind.get(MODEL, ())))
    classes = reader.forms(ServiceClassSpec, by_kind.get(SERVICE_CLASS, ()))
    servers = reader.forms(ServerSpec, by_kind.get(SERVER, ()))
    options = reader.forms(OptimizerSpec, (optimizer,), named=False)
    reader.different("name", [(key, each.name) for key, each in accelerators])
    reader.different("type", [(key, each.type) for key, each in counts])
    reader.different("model", [(key, f"{each.name} on {each.acc}") for key, each in perf])
    reader.different("name", [(key, each.name) for key, each in classes])
    reader.different("name", [(key, each.name) for key, each in servers])
    reader.ours(options, perf)
    named = MappingProxyType({each.name: key for key, each in servers})
    if reader.problems:
        return Assembled(None, MappingProxyType(reader.found()), named)
    document = {
        "system": {
            "acceleratorData": {
                "accelerators": [
                    each.model_copy(update={"template": None}).document()
                    for _, each in accelerators
                ]
            },
            "capacityData": {"count": [each.document() for _, each in counts]},
            "modelData": {"models": [each.document() for _, each in perf]},
            "serviceClassData": {"serviceClasses": [each.document() for _, each in classes]},
            "serverData": {"servers": [each.document() for _, each in servers]},
            "optimizerData": {"optimizer": options[0][1].document()},
        }
    }
    system = system_from_spec(read(SystemData, document, unknown=UnknownKeys.REJECT))
    templates = {each.name: each.template for _, each in accelerators if each.template is not None}
    return Assembled(system, MappingProxyType({}), named, MappingProxyType(templates))


def belongs(each: Object, optimizer: Object) -> bool:
    """Whether `each` is one that `optimizer` selects; both are of one namespace."""
    selector = (optimizer.get("spec") or {}).get("selector") or {}
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    labels = each["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def key_of(each: Object) -> Key:
    """Kind and name."""
    return str(each["kind"]), str(each["metadata"]["name"])


class _Reader:
    """Reads specs and notes what is wrong with each object."""

    def __init__(self) -> None:
        self.problems: dict[Key, list[str]] = {}

    def found(self) -> dict[Key, tuple[str, ...]]:
        return {key: tuple(each) for key, each in self.problems.items()}

    def note(self, key: Key, problem: str) -> None:
        self.problems.setdefault(key, []).append(problem)

    def forms(
        self, form: type[AnyForm], objects: Iterable[Object], *, named: bool = True
    ) -> list[tuple[Key, AnyForm]]:
        """The good ones of `objects` as `form`; one without a name takes its object's."""
        good = []
        for each in objects:
            document = dict(each.get("spec") or {})
            if named:
                document.setdefault("name", each["metadata"]["name"])
            try:
                good.append((key_of(each), read(form, document, path="spec")))
            except InputError as error:
                self._note_all(key_of(each), error.problems)
        return good

    def perf(self, objects: Iterable[Object]) -> Iterator[tuple[Key, ModelAcceleratorPerfData]]:
        for each in objects:
            key, spec = key_of(each), each.get("spec") or {}
            name = spec.get("name") or each["metadata"]["name"]
            for index, entry in enumerate(spec.get("accelerators") or ()):
                path = f"spec.accelerators[{index}]"
                try:
                    document = {**entry, "name": name}
                    yield key, read(ModelAcceleratorPerfData, document, path=path)
                except InputError as error:
                    self._note_all(key, error.problems)

    def different(self, what: str, given: Sequence[tuple[Key, str]]) -> None:
        """Note what a later object says that an earlier one has said already."""
        first: dict[str, Key] = {}
        for key, value in given:
            before = first.setdefault(value, key)
            if before is not key:
                kind, name = before
                self.note(key, f'{what} "{value}" is already given by {kind} {name}')

    def ours(
        self,
        options: Iterable[tuple[Key, OptimizerSpec]],
        perf: Iterable[tuple[Key, ModelAcceleratorPerfData]],
    ) -> None:
        """Refuse plug-ins of third parties: who may write objects may not choose what code runs."""
        given = [(key, "spec.solver", each.solver) for key, each in options]
        given += [(key, "spec.accelerators.queueModel", each.queue_model) for key, each in perf]
        for key, path, name in given:
            if name and ":" in name:
                self.note(key, f'{path}: must be one of our own, got "{name}"')

    def _note_all(self, key: Key, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.note(key, str(problem))
