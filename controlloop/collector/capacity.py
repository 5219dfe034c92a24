"""The cards there are: by the files, by the nodes, or as many as an autoscaler may add."""

from __future__ import annotations

from controlloop.api.node_cards import CountedCards
from controlloop.collector.options import CapacityOptions, CapacitySource
from controlloop.protocols import Cluster


def read_capacity(
    options: CapacityOptions, cluster: Cluster, timeout_s: float
) -> CountedCards | None:
    """Cards by accelerator type; None where the data files say.

    With an autoscaler that adds nodes while pods wait, what the nodes hold now bounds nothing:
    the bound is the most that may be bought. Beside nodes, a maximum makes its type such a one.

    Raises:
        ClusterError: the nodes cannot be read.

    """
    if options.source is CapacitySource.NODES:
        seen = cluster.capacity(timeout_s)
        nodes = tuple(each for each in seen.nodes if each.card_type not in options.maximum)
        return CountedCards({**seen.cards, **options.maximum}, nodes, tuple(options.maximum))
    if options.source is CapacitySource.ELASTIC:
        return CountedCards(dict(options.maximum), (), tuple(options.maximum))
    return None
