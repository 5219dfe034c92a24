from __future__ import annotations

from typing import Any

import pytest

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.decision import Action, Decision, Decisions, Patch, Plan, SiblingGoal
from controlloop.api.observation import Kinship, Observation, ServerObservation, Workload
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation
from controlloop.kube.kinship import clash_of
from controlloop.kube.parsing import parse_workload
from controlloop.kube.siblings import sibling_body

DOES_NOT_EXIST = {"key": "inferno.server.sibling", "operator": "DoesNotExist"}
SOLUTION = Solution({}, (), SolveStatus.OPTIMAL, "milp", 0.0)
TEMPLATES = {
    "A100": AcceleratorTemplate(
        node_selector={"gpu": "A100"}, limits={"cards": "1"}, environment={"TUNED": "a"}
    ),
    "2xH100": AcceleratorTemplate(
        node_selector={"gpu": "H100"},
        limits={"cards": "2"},
        tolerations=({"key": "h100", "operator": "Exists"},),
        arguments={"tensor-parallel-size": "2"},
    ),
}


def primary() -> dict[str, Any]:
    """A Deployment as the API server gives it."""
    return {
        "metadata": {
            "namespace": "llm",
            "name": "chat",
            "uid": "u1",
            "resourceVersion": "42",
            "generation": 1,
            "labels": {
                "app": "chat",
                "argocd.argoproj.io/instance": "prod",
                "inferno.server.managed": "true",
                "inferno.server.name": "chat",
                "inferno.server.class": "Premium",
                "inferno.server.pause": "up",
                "inferno.server.allocation.accelerator": "A100",
                "inferno.server.allocation.maxbatchsize": "32",
            },
            "annotations": {"inferno.server.model": "meta/llama"},
        },
        "spec": {
            "replicas": 4,
            "minReadySeconds": 5,
            "selector": {"matchLabels": {"app": "chat"}, "matchExpressions": [DOES_NOT_EXIST]},
            "template": {
                "metadata": {"labels": {"app": "chat", "tier": "gpu"}},
                "spec": {
                    "nodeSelector": {"gpu": "A100", "zone": "a"},
                    "containers": [
                        {
                            "name": "vllm",
                            "image": "vllm:1",
                            "args": ["--model=x", "--max-num-seqs=32"],
                            "env": [{"name": "TUNED", "value": "a"}, {"name": "B", "value": "b"}],
                            "resources": {"limits": {"cards": "1", "memory": "9Gi"}},
                            "ports": [{"containerPort": 8000}],
                        },
                        {"name": "sidecar", "image": "log:1"},
                    ],
                },
            },
        },
        "status": {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 4},
    }


def decided(goal: SiblingGoal, deployment: dict[str, Any]) -> Plan:
    workload = parse_workload(deployment, [], None, "controlloop")
    current = Allocation("A100", 4, 32)
    decision = Decision("chat", Action.KEEP, current, current, "", siblings=(goal,))
    seen = Observation(0.0, (ServerObservation(workload),))
    return plan(Decisions((decision,), SOLUTION), seen, Means(TEMPLATES))


def born(deployment: dict[str, Any]) -> tuple[Patch, dict[str, Any]]:
    goal = SiblingGoal("2xH100", 64, 0, 3, "it saves")
    (patch,) = decided(goal, deployment).patches
    assert patch.birth is not None
    return patch, sibling_body(deployment, patch, patch.birth)


def read_back(body: dict[str, Any], manager: str = "controlloop") -> Workload:
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:template": {}}}
    entry = {"manager": manager, "operation": "Update", "fieldsV1": fields}
    metadata = {**body["metadata"], "uid": "u2", "managedFields": [entry]}
    return parse_workload({**body, "metadata": metadata}, [], None, "controlloop")


def test_a_sibling_is_its_primary_moved_to_another_accelerator() -> None:
    patch, body = born(primary())
    name = patch.ref.name
    assert name.startswith("chat-2xh100-")
    pod = body["spec"]["template"]
    assert pod["metadata"]["labels"] == {
        "app": "chat",
        "tier": "gpu",
        "inferno.server.sibling": name,
    }
    assert pod["spec"]["nodeSelector"] == {"gpu": "H100", "zone": "a"}
    assert pod["spec"]["tolerations"] == [{"key": "h100", "operator": "Exists"}]
    engine, sidecar = pod["spec"]["containers"]
    wanted = ["--max-num-seqs=64", "--model=x", "--tensor-parallel-size=2"]
    assert sorted(engine["args"]) == wanted
    assert engine["env"] == [{"name": "B", "value": "b"}]
    assert engine["resources"] == {"limits": {"cards": "2", "memory": "9Gi"}}
    assert (engine["image"], engine["ports"]) == ("vllm:1", [{"containerPort": 8000}])
    assert sidecar == {"name": "sidecar", "image": "log:1"}
    assert (body["spec"]["replicas"], body["spec"]["minReadySeconds"]) == (3, 5)
    assert body["spec"]["selector"] == {"matchLabels": {"inferno.server.sibling": name}}


def test_it_goes_with_its_primary_and_says_what_it_serves_and_nothing_else_of_it() -> None:
    patch, body = born(primary())
    metadata = body["metadata"]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "chat",
            "uid": "u1",
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]
    assert metadata["labels"] == {
        "inferno.server.managed": "true",
        "inferno.server.name": "chat",
        "inferno.server.class": "Premium",
        "inferno.server.allocation.accelerator": "2xH100",
        "inferno.server.allocation.maxbatchsize": "64",
        "inferno.server.sibling": patch.ref.name,
    }
    assert metadata["annotations"]["inferno.server.model"] == "meta/llama"


def test_it_is_known_again_with_the_template_that_it_was_made_from() -> None:
    deployment = primary()
    _, body = born(deployment)
    workload = parse_workload(deployment, [], None, "controlloop")
    assert workload.kinship is None
    assert workload.rollable is not None
    sibling = read_back(body)
    assert sibling.kinship == Kinship("u1", workload.rollable.digest)
    assert (sibling.server, sibling.accelerator, sibling.max_batch) == ("chat", "2xH100", 64)
    assert sibling.holds[1:] == ()
    deployment["spec"]["template"]["spec"]["containers"][1]["image"] = "log:2"
    changed = parse_workload(deployment, [], None, "controlloop").rollable
    assert changed is not None
    assert changed.digest != sibling.kinship.source


@pytest.mark.parametrize("lacks", ["label", "owner", "manager"])
def test_what_lacks_anything_of_it_is_no_sibling(lacks: str) -> None:
    _, body = born(primary())
    if lacks == "label":
        del body["metadata"]["labels"]["inferno.server.sibling"]
    if lacks == "owner":
        del body["metadata"]["ownerReferences"]
    found = read_back(body, "kubectl" if lacks == "manager" else "controlloop")
    assert found.kinship is None


@pytest.mark.parametrize(
    ("selector", "clashes"),
    [
        ({"matchLabels": {"app": "chat"}}, True),
        ({"matchLabels": {"app": "chat"}, "matchExpressions": [DOES_NOT_EXIST]}, False),
        ({"matchLabels": {"app": "chat", "inferno.server.sibling": "none"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["chat"]}]}, True),
    ],
)
def test_a_selector_that_would_select_a_siblings_pods_is_seen(
    selector: dict[str, Any], clashes: bool
) -> None:
    deployment = primary()
    deployment["spec"]["selector"] = selector
    clash = clash_of(deployment["spec"])
    assert bool(clash) is clashes
    made = decided(SiblingGoal("2xH100", 64, 0, 3, ""), deployment)
    assert bool(made.patches) is not clashes
    if clashes:
        assert "DoesNotExist" in clash
        (refusal,) = made.refusals
        assert refusal.kinds == ("sibling-selector",)


def test_an_accelerator_without_template_gets_no_sibling() -> None:
    made = decided(SiblingGoal("B200", 64, 0, 3, ""), primary())
    assert made.patches == ()
    assert "'B200' has no template" in made.refusals[0].reason
