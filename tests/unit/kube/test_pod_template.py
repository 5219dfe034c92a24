"""What a switch needs of a Deployment is read, and only what differs is patched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from controlloop.api.holds import HoldReason
from controlloop.api.labels import CONTAINER, SWITCH
from controlloop.kube.pod_template import read_rollable, template_patch


def a_deployment(**annotations: str) -> dict[str, Any]:
    engine = {
        "name": "engine",
        "image": "vllm:1",
        "args": ["--max-num-seqs=32"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {}}}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "x"}],
        "containers": [{"name": "sidecar"}, engine],
    }
    return {
        "metadata": {"annotations": {CONTAINER: "engine", **annotations}},
        "spec": {"template": {"spec": pod}, "strategy": {"type": "Recreate"}},
    }


def test_the_named_container_is_the_engine() -> None:
    rollable, holds = read_rollable(a_deployment(), seen=True, settled=True)
    assert rollable.template.container == "engine"
    assert json.loads(rollable.template.fields["limits/nvidia.com/gpu"]) == "1"
    assert not rollable.rolling
    assert holds == ()
    other = a_deployment(**{CONTAINER: "none"})
    assert read_rollable(other, seen=True, settled=True)[0].template.container == ""


def test_a_note_that_is_no_good_holds_the_server_and_is_named() -> None:
    deployment = a_deployment(**{SWITCH: '{"state": "flying"}'})
    rollable, (hold,) = read_rollable(deployment, seen=True, settled=True)
    assert rollable.switch is None
    assert hold.reason is HoldReason.LABELS_INVALID
    assert SWITCH in hold.detail


def test_only_what_differs_is_patched_and_what_goes_is_deleted() -> None:
    before = read_rollable(a_deployment(), seen=True, settled=True)[0].template
    assert template_patch(before, before) == {}
    fields = {
        slot: value
        for slot, value in before.fields.items()
        if not slot.startswith(("nodeSelector/", "env/A", "toleration/"))
    }
    after = replace(before, fields={**fields, "limits/amd.com/gpu": '"2"'}, args=("-v",))
    assert template_patch(before, after) == {
        "spec": {
            "nodeSelector": {"gpu": None},
            "tolerations": [],
            "containers": [
                {
                    "name": "engine",
                    "args": ["-v"],
                    "env": [{"name": "A", "$patch": "delete"}],
                    "resources": {"limits": {"amd.com/gpu": "2"}},
                }
            ],
        }
    }
