"""Capacity from nodes: the cards that managed workloads may use, by accelerator type. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

from controlloop.api.node_cards import NodeCards

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Vendor:
    """How the nodes of one maker say their cards.

    Attributes:
        resource: what pods ask for.
        product_labels: labels that name the product, best first.
        memory_labels: labels that say one card's memory, best first; in MiB without a unit.
        prefixes: what a product's name begins with that says nothing more of its type.

    """

    resource: str
    product_labels: tuple[str, ...]
    memory_labels: tuple[str, ...]
    prefixes: tuple[str, ...]


VENDORS: Final = (
    Vendor(
        "nvidia.com/gpu",
        ("nvidia.com/gpu.product",),
        ("nvidia.com/gpu.memory",),
        ("NVIDIA-", "Tesla-"),
    ),
    Vendor(
        "amd.com/gpu",
        ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
        ("amd.com/gpu.vram", "beta.amd.com/gpu.vram"),
        ("AMD_", "AMD-", "Instinct_"),
    ),
    # Products name their memory; the plugin's own label of it sums a node's cards.
    Vendor("gpu.intel.com/i915", ("gpu.intel.com/product",), (), ()),
    Vendor("gpu.intel.com/xe", ("gpu.intel.com/product",), (), ()),
)
SAYS_MEMORY: Final = re.compile(r"[0-9]+ ?GB?(?![A-Za-z])", re.IGNORECASE)
MEMORY: Final = re.compile(r"([0-9]+)([GM]?)(?:i?B)?")
"""What a memory label says: "81920" in MiB, or "192G"."""
KEEPS_PODS_AWAY: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How nodes are read.

    Attributes:
        accelerator_types: our accelerator type by "product" or "product/memory", as the node's
            labels have them ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-PCIE/40960"); the longer
            key is looked up first. A product not named is its own type, without its maker's name
            and with its memory, where a label says that and the product's name does not.
        tolerated_taints: keys of taints that the pods of managed workloads tolerate; the API
            server adds a toleration of an extended resource's own name to who asks for it.

    """

    accelerator_types: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tolerated_taints: tuple[str, ...] = tuple(vendor.resource for vendor in VENDORS)


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """Cards by accelerator type, remarks on nodes not counted, and what is free on each node."""

    cards: Mapping[str, int]
    notes: tuple[str, ...]
    nodes: tuple[NodeCards, ...] = ()


def common_tolerations(managed: Iterable[Object]) -> tuple[tuple[Object, ...], ...]:
    """The tolerations of each managed Deployment whose pods ask for cards."""
    specs = [(each["spec"].get("template") or {}).get("spec") or {} for each in managed]
    return tuple(
        tuple(spec.get("tolerations") or ())
        for spec in specs
        if any(cards_of(spec, vendor.resource) for vendor in VENDORS)
    )


def count_cards(
    nodes: Iterable[Object],
    pods: Iterable[Object],
    ours: frozenset[str],
    options: NodeOptions,
    tolerations: tuple[tuple[Object, ...], ...] = (),
) -> NodeCapacity:
    """The cards of the nodes that take pods, less those that pods of others use.

    Args:
        nodes: all nodes.
        pods: all unfinished pods of all namespaces.
        ours: the uids of the pods that belong to managed workloads.
        options: types and taints.
        tolerations: of each managed workload; a taint that all of them tolerate keeps none away.

    """
    held, taken = _held(pods, ours)
    cards: dict[str, int] = {}
    found: list[NodeCards] = []
    notes = []
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        name = node["metadata"]["name"]
        if not _takes_pods(node, options, tolerations):
            continue
        for vendor in VENDORS:
            allocatable = quantity((node.get("status") or {}).get("allocatable"), vendor.resource)
            if not allocatable:
                continue
            kind = _accelerator_type(node, vendor, options)
            if kind is None:
                notes.append(
                    f"node {name}: its {allocatable} {vendor.resource} are not counted, "
                    f"it has no label {vendor.product_labels[0]}"
                )
                continue
            free = max(allocatable - taken[name, vendor.resource], 0)
            cards[kind] = cards.get(kind, 0) + free
            unheld = max(allocatable - held[name, vendor.resource], 0)
            found.append(NodeCards(name, kind, unheld))
    return NodeCapacity(cards, tuple(notes), tuple(found))


def _takes_pods(
    node: Object, options: NodeOptions, tolerations: tuple[tuple[Object, ...], ...]
) -> bool:
    spec = node.get("spec") or {}
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each.get("status") == "True" for each in conditions)
    repelling = any(
        taint.get("effect") in KEEPS_PODS_AWAY
        and taint["key"] not in options.tolerated_taints
        and not _all_tolerate(tolerations, taint)
        for taint in spec.get("taints") or ()
    )
    return ready and not repelling and not spec.get("unschedulable")


def _all_tolerate(tolerations: tuple[tuple[Object, ...], ...], taint: Object) -> bool:
    """Of a type there is one number for all: who does not tolerate it could not use those cards."""
    return bool(tolerations) and all(
        any(_tolerates(each, taint) for each in own) for own in tolerations
    )


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("tolerationSeconds") is not None and taint.get("effect") == "NoExecute":
        # It only puts off that the pod is evicted.
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    same = (toleration.get("value") or "") == (taint.get("value") or "")
    return bool(toleration["key"] == taint["key"] and (exists or same))


def _accelerator_type(node: Object, vendor: Vendor, options: NodeOptions) -> str | None:
    labels = node["metadata"].get("labels") or {}
    product = _first(labels, vendor.product_labels)
    if not product:
        return None
    memory = _first(labels, vendor.memory_labels)
    types = options.accelerator_types
    named = types.get(f"{product}/{memory}") or types.get(product)
    return named or _without_prefix(product, vendor) + _memory_suffix(product, memory)


def _first(labels: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")


def _memory_suffix(product: str, memory: str) -> str:
    """The memory in whole GB, where it would tell two types of one product's name apart."""
    said = MEMORY.fullmatch(memory)
    if said is None or SAYS_MEMORY.search(product):
        return ""
    amount = int(said[1]) if said[2] == "G" else round(int(said[1]) / 1024)
    return f"-{amount}GB"


def _without_prefix(product: str, vendor: Vendor) -> str:
    for prefix in vendor.prefixes:
        product = product.removeprefix(prefix)
    return product


_OnNodes = Counter[tuple[str, str]]
"""Cards by name of a node and resource."""


def _held(pods: Iterable[Object], ours: frozenset[str]) -> tuple[_OnNodes, _OnNodes]:
    """Cards that pods hold, also those that start or end: of all, and of those not `ours`."""
    held, taken = _OnNodes(), _OnNodes()
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            continue
        others = pod["metadata"]["uid"] not in ours
        for vendor in VENDORS:
            cards = cards_of(pod["spec"], vendor.resource)
            if cards:
                held[node, vendor.resource] += cards
                if others:
                    taken[node, vendor.resource] += cards
    return held, taken


def cards_of(spec: Object, resource: str) -> int:
    """What the scheduler sets aside for a pod: all that run together, or the greediest starter."""
    starters = spec.get("initContainers") or ()
    sidecars = [each for each in starters if each.get("restartPolicy") == "Always"]
    together = sum([_asked(each, resource) for each in [*spec.get("containers", ()), *sidecars]])
    return max([together, *[_asked(each, resource) for each in starters]])


def _asked(container: Object, resource: str) -> int:
    wants = container.get("resources") or {}
    return quantity(wants.get("requests"), resource) or quantity(wants.get("limits"), resource)


def quantity(amounts: Object | None, resource: str) -> int:
    """The whole number of a resource among amounts; 0 where it is not named."""
    amount = amounts.get(resource) if amounts else None
    return _whole(amount) if amount else 0


@lru_cache(maxsize=1024)
def _whole(amount: str | int) -> int:
    """Of a fleet's pods thousands ask for the same."""
    return int(parse_quantity(amount))  # type: ignore[no-untyped-call]
