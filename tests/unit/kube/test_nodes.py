from __future__ import annotations

from typing import Any

import pytest

from controlloop.kube.nodes import NodeOptions, common_tolerations, count_cards

GPU = "nvidia.com/gpu"
NOBODY: frozenset[str] = frozenset()


def a_node(name: str = "n1", gpus: int = 8, ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {
                "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
                "nvidia.com/gpu.memory": "81920",
            },
        },
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "64", GPU: str(gpus)},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def a_pod(uid: str, gpus: int, node: str | None = "n1", **spec: Any) -> dict[str, Any]:
    containers = [{"resources": {"limits": {GPU: str(gpus)}}}]
    return {"metadata": {"uid": uid}, "spec": {"nodeName": node, "containers": containers, **spec}}


def cards(*nodes: dict[str, Any], **types: str) -> dict[str, int]:
    return dict(count_cards(nodes, [], NOBODY, NodeOptions(types)).cards)


def test_cards_of_one_type_add_up_under_the_products_name() -> None:
    assert cards(a_node(), a_node("n2", 4)) == {"A100-SXM4-80GB": 12}


def test_a_product_gets_the_type_that_the_options_name() -> None:
    types = {"NVIDIA-A100-SXM4-80GB": "A100"}
    assert cards(a_node(), **types) == {"A100": 8}


def test_the_memory_tells_two_types_of_one_product_apart() -> None:
    small = a_node("n2", 4)
    small["metadata"]["labels"]["nvidia.com/gpu.memory"] = "40960"
    types = {"NVIDIA-A100-SXM4-80GB": "A100", "NVIDIA-A100-SXM4-80GB/40960": "A100-40"}
    assert cards(a_node(), small, **types) == {"A100": 8, "A100-40": 4}


def test_nodes_that_take_no_pods_do_not_count() -> None:
    repelling = {"key": "maintenance", "effect": "NoSchedule"}
    evicting = {"key": "maintenance", "effect": "NoExecute"}
    nodes = [
        a_node("cordoned", unschedulable=True),
        a_node("unready", ready="False"),
        a_node("unknown", ready="Unknown"),
        a_node("repelling", taints=[repelling]),
        a_node("evicting", taints=[evicting]),
    ]
    assert cards(*nodes) == {}


def test_taints_that_our_pods_tolerate_or_that_only_advise_do_not_matter() -> None:
    tolerated = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    advice = {"key": "expensive", "effect": "PreferNoSchedule"}
    own = {"key": "team", "value": "llm", "effect": "NoSchedule"}
    node = a_node(taints=[tolerated, advice, own])
    assert cards(node) == {}
    options = NodeOptions(tolerated_taints=(GPU, "team"))
    assert count_cards([node], [], NOBODY, options).cards == {"A100-SXM4-80GB": 8}


def deployment(*tolerations: dict[str, Any], cards: str = "1") -> dict[str, Any]:
    spec = {
        "containers": [{"name": "engine", "resources": {"limits": {GPU: cards}}}],
        "tolerations": list(tolerations),
    }
    return {"spec": {"template": {"spec": spec}}}


TEAM = {"key": "team", "value": "llm", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("deployments", "counted"),
    [
        ([deployment({"key": "team", "operator": "Exists"})], True),
        ([deployment({"key": "team", "value": "llm"})], True),
        ([deployment({"operator": "Exists"})], True),
        ([deployment({"key": "team", "value": "other"})], False),
        ([deployment({"key": "team", "operator": "Exists", "effect": "NoExecute"})], False),
        ([deployment({"operator": "Exists"}), deployment()], False),
        ([deployment({"operator": "Exists"}), deployment(cards="0")], True),
        ([], False),
    ],
)
def test_a_taint_that_every_managed_workload_tolerates_keeps_none_away(
    deployments: list[dict[str, Any]], counted: bool
) -> None:
    tolerations = common_tolerations(deployments)
    found = count_cards([a_node(taints=[TEAM])], [], NOBODY, NodeOptions(), tolerations)
    assert bool(found.cards) is counted


def test_a_toleration_that_only_puts_an_eviction_off_is_none() -> None:
    evicts = {"key": "team", "effect": "NoExecute"}
    tolerations = common_tolerations([deployment({"operator": "Exists", "tolerationSeconds": 60})])
    assert (
        count_cards([a_node(taints=[evicts])], [], NOBODY, NodeOptions(), tolerations).cards == {}
    )


def test_cards_that_others_hold_are_not_ours_to_give() -> None:
    pods = [a_pod("ours", 4), a_pod("theirs", 3), a_pod("waiting", 2, node=None)]
    counted = count_cards([a_node()], pods, frozenset({"ours"}), NodeOptions())
    assert counted.cards == {"A100-SXM4-80GB": 5}


def test_a_pod_holds_the_greater_of_its_containers_and_its_starters() -> None:
    starter = {"resources": {"requests": {GPU: "2"}}}
    greedy = {"resources": {"requests": {GPU: "6"}}}
    sidecar = {"resources": {"limits": {GPU: "1"}}, "restartPolicy": "Always"}

    def left(*starters: dict[str, Any]) -> int:
        pod = a_pod("theirs", 3, initContainers=list(starters))
        return dict(count_cards([a_node()], [pod], NOBODY, NodeOptions()).cards)["A100-SXM4-80GB"]

    assert (left(starter), left(greedy), left(sidecar)) == (5, 2, 4)


def test_capacity_is_never_negative() -> None:
    pods = [a_pod("theirs", 8), a_pod("theirs-too", 8)]
    assert count_cards([a_node()], pods, NOBODY, NodeOptions()).cards == {"A100-SXM4-80GB": 0}


def test_cards_of_an_unnamed_product_are_not_counted_and_the_node_is_named() -> None:
    node = a_node("mystery")
    del node["metadata"]["labels"]["nvidia.com/gpu.product"]
    counted = count_cards([node, a_node("no-cards", gpus=0)], [], NOBODY, NodeOptions())
    assert counted.cards == {}
    (note,) = counted.notes
    assert "mystery" in note
    assert "nvidia.com/gpu.product" in note


def a_node_of(resource: str, gpus: int, labels: dict[str, str]) -> dict[str, Any]:
    node = a_node(gpus=0)
    node["metadata"]["labels"] = dict(labels)
    node["status"]["allocatable"] = {resource: str(gpus)}
    return node


def test_cards_of_other_makers_count_by_the_labels_of_their_labellers() -> None:
    amd = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    old = {f"beta.{key}": value for key, value in amd.items()}
    assert cards(a_node_of("amd.com/gpu", 8, amd)) == {"MI300X_OAM-192GB": 8}
    assert cards(a_node_of("amd.com/gpu", 8, old)) == {"MI300X_OAM-192GB": 8}
    intel = {"gpu.intel.com/product": "Max_1550"}
    for resource in ("gpu.intel.com/i915", "gpu.intel.com/xe"):
        assert cards(a_node_of(resource, 4, intel)) == {"Max_1550": 4}


def test_a_product_of_two_memories_is_two_types_without_any_setting() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-PCIE", "nvidia.com/gpu.memory": "40960"}
    small, great = a_node_of(GPU, 4, labels), a_node_of(GPU, 8, labels)
    great["metadata"]["labels"]["nvidia.com/gpu.memory"] = "81920"
    assert cards(small, great) == {"A100-PCIE-40GB": 4, "A100-PCIE-80GB": 8}
    named = {"NVIDIA-A100-PCIE": "A100"}
    assert cards(small, great, **named) == {"A100": 12}


def test_what_is_free_on_a_node_is_what_no_pod_holds() -> None:
    going = a_pod("going", 1)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [a_pod("ours", 4), a_pod("theirs", 1), going, a_pod("waiting", 2, node=None)]
    counted = count_cards([a_node(), a_node("n2", 4)], pods, frozenset({"ours"}), NodeOptions())
    assert counted.cards == {"A100-SXM4-80GB": 10}
    assert [(each.node, each.free) for each in counted.nodes] == [("n1", 2), ("n2", 4)]
