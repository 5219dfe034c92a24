"""JSON forms of what runs a server on an accelerator, as a custom resource says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from controlloop.api.spec_types import Count, Flag, Form, Text
from controlloop.api.specs_supply import AcceleratorSpec

# Some engines take a whole configuration in one argument.
LongText = Annotated[str, Field(strict=True, max_length=4096)]


class TolerationSpec(Form):
    """A toleration, as in a pod."""

    key: Text | None = Field(None, description="Key of the taint; missing is every key.")
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="Exists or Equal; missing is Equal."
    )
    value: Text | None = Field(None, description="Value of the taint, where it is to be equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; missing is every effect."
    )
    toleration_seconds: Count | None = Field(
        None, alias="tolerationSeconds", description="How long NoExecute is tolerated, in s."
    )


class TemplateSpec(Form):
    """What a pod needs to run on an accelerator; what is left out stays as it is."""

    node_selector: dict[str, Text] = Field(
        default_factory=dict, alias="nodeSelector", description="Labels of the node, by key."
    )
    tolerations: tuple[TolerationSpec, ...] = Field((), description="A list, as in a pod.")
    limits: dict[str, Text] = Field(
        default_factory=dict, description="Limits of the engine's container, by resource."
    )
    requests: dict[str, Text] = Field(
        default_factory=dict, description="Requests of the engine's container, by resource."
    )
    runtime_class: Text = Field("", alias="runtimeClass", description="Name, of the pod.")
    image: Text = Field("", description="Name of the image of the engine's container.")
    arguments: dict[str, LongText] = Field(
        default_factory=dict,
        description="Arguments of the engine by name without dashes; empty has no value.",
    )
    environment: dict[str, LongText] = Field(
        default_factory=dict, description="Variables of the engine's container, by name."
    )
    engine: Literal["vllm", "sglang"] = Field(
        "vllm", description="Says the batch in max-num-seqs (vllm) or max-running-requests."
    )
    batch_name: Text = Field(
        "", alias="batchName", description="Name of what says the batch; empty is the engine's."
    )
    batch_form: Literal["argument", "environment"] = Field(
        "argument", alias="batchForm", description="Whether that is an argument or a variable."
    )
    separate: Flag = Field(
        default=False, description="Whether values are words of their own, true or false."
    )


class AcceleratorObjectSpec(AcceleratorSpec):
    """An accelerator with what runs a server on it."""

    template: TemplateSpec | None = Field(
        None, description="What a pod needs to run there; missing leaves pods as they are."
    )
