"""What runs a server on an accelerator, as the settings say it."""

from __future__ import annotations

from typing import Literal

from controlloop.settings.form import Section
from controlloop.settings.form import setting as _setting


class TemplateSettings(Section):
    """What a pod needs to run on one accelerator; what is empty is left as it is."""

    node_selector: dict[str, str] = _setting(dict, "labels of the node")
    tolerations: tuple[dict[str, str | int], ...] = _setting((), "as in a pod", strict=False)
    limits: dict[str, str] = _setting(dict, "resources of the engine's container")
    requests: dict[str, str] = _setting(dict, "the same")
    runtime_class: str = _setting("", "of the pod")
    image: str = _setting("", "of the engine's container")
    arguments: dict[str, str] = _setting(dict, "of the engine, without dashes; empty: no value")
    environment: dict[str, str] = _setting(dict, "of the engine's container")
    engine: Literal["vllm", "sglang"] = _setting(
        "vllm", "says the batch in max-num-seqs (vllm) or max-running-requests (sglang)"
    )
    batch_name: str = _setting("", "argument or variable of the batch", off="empty: the engine's")
    batch_form: Literal["argument", "environment"] = _setting("argument", "what it is")
    separate: bool = _setting(False, "values of arguments are words of their own")  # noqa: FBT003 - a default
