"""What goes wrong in a plant, and when; times are seconds on the simulated clock."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaDeath:
    """`replicas` of a server die at `time`, the oldest first, and their requests with them.

    The Deployment makes new ones at once, which start up as any other.
    """

    time: float
    server: str
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """A node with `cards` of a type is gone from `time` until `back`.

    It takes the oldest replicas on such cards with it, until their cards are its cards.
    """

    time: float
    card_type: str
    cards: int
    back: float = math.inf


Fault = ReplicaDeath | NodeLoss
