"""What runs a server on an accelerator: templates, and the pod template that they make. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from controlloop.actuator.words import is_shell, rewritten, value_of
from controlloop.api.labels import ALLOCATION
from controlloop.api.switching import Place, PodTemplate

_FLAG: Final = "argument/"


class BatchForm(StrEnum):
    """How the maximum batch is said: in an argument, or in an environment variable."""

    ARGUMENT = "argument"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class AcceleratorTemplate:
    """What a pod needs to run on one accelerator; what is empty is left as it is.

    Attributes:
        node_selector: labels of the node.
        tolerations: as in a pod.
        limits: resources of the engine's container.
        requests: the same.
        runtime_class: of the pod.
        image: of the engine's container.
        arguments: of the engine by name without dashes; "" is one without a value.
        environment: of the engine's container.
        batch_name: the argument or variable that says the maximum batch.
        batch_form: which of both it is.
        separate: whether an argument's value is a word of its own.

    """

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""
    image: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    batch_name: str = "max-num-seqs"
    batch_form: BatchForm = BatchForm.ARGUMENT
    separate: bool = False

    def slots(self, place: Place) -> Mapping[str, str]:
        """Everything that it sets for `place`, by slot; see `PodTemplate.fields`."""
        found = {f"annotation/{ALLOCATION}": json.dumps(str(place))}
        for name, values in (
            ("nodeSelector", self.node_selector),
            ("limits", self.limits),
            ("requests", self.requests),
        ):
            found |= {f"{name}/{key}": json.dumps(value) for key, value in values.items()}
        found |= {f"toleration/{canonical(each)}": canonical(each) for each in self.tolerations}
        variables = dict(self.environment)
        arguments = {name.replace("_", "-"): value for name, value in self.arguments.items()}
        if place.max_batch and self.batch_form is BatchForm.ENVIRONMENT:
            variables[self.batch_name] = str(place.max_batch)
        elif place.max_batch:
            arguments[self.batch_name.replace("_", "-")] = str(place.max_batch)
        for name, value in variables.items():
            found[f"env/{name}"] = canonical({"name": name, "value": value})
        found |= {f"{_FLAG}{name}": value for name, value in arguments.items()}
        if self.runtime_class:
            found["runtimeClassName"] = json.dumps(self.runtime_class)
        if self.image:
            found["image"] = json.dumps(self.image)
        return found


Templates = Mapping[str, AcceleratorTemplate]
"""By accelerator."""


def canonical(value: object) -> str:
    """JSON that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def moved(
    pod: PodTemplate,
    leaving: Mapping[str, str],
    entering: Mapping[str, str],
    displaced: Mapping[str, str],
    *,
    separate: bool = False,
) -> tuple[PodTemplate, Mapping[str, str]]:
    """The pod template after a move, and what is displaced from then on.

    What the old template set goes, or is again what it was before; what the new one sets is
    set; everything else stays.

    Args:
        pod: as it is.
        leaving: slots that the old template set.
        entering: slots that the new one sets.
        displaced: values that the old one replaced.
        separate: whether values of arguments are words of their own.

    """
    words = (*pod.command, *pod.args)
    before = dict(pod.fields)
    given = {**entering, **leaving}
    switches = {
        slot.removeprefix(_FLAG)
        for slot, value in given.items()
        if slot.startswith(_FLAG) and not value
    }
    for slot in (*leaving, *entering):
        if slot.startswith(_FLAG):
            value = value_of(words, slot.removeprefix(_FLAG), switches)
            if value is not None:
                before[slot] = value
    kept = {slot: value for slot, value in displaced.items() if slot in entering}
    for slot in entering:
        if slot not in leaving and slot not in kept and slot in before:
            kept[slot] = before[slot]
    restored = {slot: value for slot, value in displaced.items() if slot not in entering}
    put = {**entering, **restored}
    gone = [slot for slot in leaving if slot not in put]
    flags_put = {
        slot.removeprefix(_FLAG): value for slot, value in put.items() if slot.startswith(_FLAG)
    }
    flags_gone = [slot.removeprefix(_FLAG) for slot in gone if slot.startswith(_FLAG)]
    fields = {slot: value for slot, value in pod.fields.items() if slot not in gone}
    fields |= {slot: value for slot, value in put.items() if not slot.startswith(_FLAG)}
    in_command = not pod.args and bool(pod.command)
    in_command |= any(value_of(pod.command, flag) is not None for flag in (*flags_gone, *flags_put))
    there = pod.command if in_command else pod.args
    here = rewritten(there, flags_gone, flags_put, separate=separate, switches=switches)
    if in_command:
        touched = [*flags_gone, *flags_put]
        others = rewritten(pod.args, touched, {}, separate=separate, switches=switches)
        return replace(pod, fields=fields, command=here, args=others), kept
    return replace(pod, fields=fields, args=here), kept


def why_not_editable(pod: PodTemplate) -> str:
    """Why the pod template cannot be changed safely; "" where it can."""
    if not pod.container:
        return "it does not say which container is the engine's"
    if is_shell(pod.command) or (not pod.command and is_shell(pod.args)):
        return "a shell reads the engine's arguments as one text"
    return ""
