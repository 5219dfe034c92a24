"""Cards as the nodes have them: a replica's must all be on one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NodeCards:
    """`free` cards of one type on one node: those that no pod holds, ours or others'."""

    node: str
    card_type: str
    free: int


@dataclass(frozen=True, slots=True)
class CountedCards:
    """Cards by type that managed workloads may use, and those of them free on each node.

    `elastic` are types of which an autoscaler adds nodes: what is free on a node bounds nothing.
    """

    cards: Mapping[str, int] = field(default_factory=dict)
    nodes: tuple[NodeCards, ...] = ()
    elastic: tuple[str, ...] = ()
