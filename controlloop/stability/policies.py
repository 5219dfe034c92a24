"""The table of policies: a new one is one line here."""

from __future__ import annotations

from typing import Final

from controlloop.plugins import Registry
from controlloop.protocols import Policy
from controlloop.stability.bounds import BoundsPolicy
from controlloop.stability.windows import WindowsPolicy

WINDOWS: Final = "windows"
"""The one that is told more than bounds."""


def policies() -> Registry[Policy]:
    """Every policy that this package brings."""
    registry: Registry[Policy] = Registry("policy", Policy)
    registry.add(WINDOWS, WindowsPolicy)
    registry.add("bounds", BoundsPolicy)
    return registry
