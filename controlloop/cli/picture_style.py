"""The look that all pictures share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes

from controlloop.errors import InputError, Problem

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
BLUE, ORANGE, GREEN, PALE = "#1b6ca8", "#d1892b", "#3a7d44", "#dceaf5"
WARNING = "#b3541e"
SUFFIXES: Final = (".png", ".svg")


def head(axes: Axes, text: str) -> None:
    """A title at the left of a panel."""
    axes.set_title(text, loc="left", fontsize=10.5, color=INK, fontweight="bold")


def style(axes: Axes) -> None:
    """A panel without frame, with lines to read heights by."""
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def check_suffix(path: Path, option: str = "--output") -> None:
    """See that a picture can be written under the name that `option` gives.

    Raises:
        InputError: its suffix is of no kind of picture that is written.

    """
    if path.suffix.lower() not in SUFFIXES:
        rule = f"must end in {' or '.join(SUFFIXES)}"
        raise InputError([Problem(option, rule, str(path))])
