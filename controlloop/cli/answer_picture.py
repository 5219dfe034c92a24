"""The picture of an answer: assignment, cost and performance before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from controlloop.api.cards import CardCounter
from controlloop.api.replicas import FloatArray
from controlloop.api.system import Allocation, Server, System
from controlloop.cli.compare import Answer
from controlloop.cli.picture_style import (
    BLUE,
    GRID,
    INK,
    MUTED,
    WARNING,
    check_suffix,
    head,
    style,
)
from controlloop.optimizer.present import predict_present
from controlloop.optimizer.what_if import with_allocations

_MOST_SERVERS: Final = 40
# Latencies beyond this share of their target are drawn at the edge.
_EDGE: Final = 2.0
_BAR: Final = 0.36
_PALE: Final = 0.45


@dataclass(frozen=True, slots=True)
class Scene:
    """What runs where.

    Attributes:
        name: what to call it ("before").
        system: with loads, targets and capacity as they are then.
        allocations: by server.
        short: servers that are not served whole.

    """

    name: str
    system: System
    allocations: Mapping[str, Allocation]
    short: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Story:
    """Two scenes; `unchanged` is the first one's allocations under the second one's load."""

    title: str
    before: Scene
    after: Scene
    unchanged: Scene | None = None


def story_of(before: Answer | None, after: Answer) -> Story:
    """What runs now and the answer or, where there are two, the answers before and after."""
    title = f"{len(after.served)} of {len(after.system.servers)} servers served whole"
    if before is None:
        runs = Scene("runs now", after.system, predict_present(after.system))
        return Story(title, runs, _scene("allocated", after))
    kept = with_allocations(before.system, before.solution)
    loads = {server.name: server.current.load for server in after.system.servers}
    servers = (
        replace(each, current=replace(each.current, load=loads[each.name])) for each in kept.servers
    )
    unchanged = replace(after.system, servers=tuple(servers))
    return Story(
        title,
        _scene("before", before),
        _scene("after", after),
        Scene("after, had nothing changed", unchanged, predict_present(unchanged)),
    )


def _scene(name: str, answer: Answer) -> Scene:
    solution = answer.solution
    short = frozenset(each.server for each in solution.unserved)
    return Scene(name, answer.system, solution.allocations, short)


def draw(story: Story, path: Path) -> None:
    """Write the picture to `path`; its suffix says whether as PNG or SVG.

    Raises:
        InputError: the suffix is of neither.
        OSError: the file cannot be written.

    """
    check_suffix(path)
    servers = _servers(story)
    rows = max(len(servers), 3)
    height = 0.42 * rows + 3.4
    figure = Figure(figsize=(12.5, height), dpi=90, facecolor="white", layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[0.42 * rows + 1.0, 2.1], squeeze=False)
    upper, lower = parts[0, 0], parts[1, 0]
    panels = upper.subplots(1, 4, sharey=True, width_ratios=[1.5, 1.1, 1, 1])
    colors = _colors(story)
    _assignment(panels[0], story, servers, colors)
    _cost(panels[1], story, servers)
    _latency(panels[2], story, servers, "ITL")
    _latency(panels[3], story, servers, "TTFT")
    for panel in panels:
        style(panel)
        panel.grid(visible=False, axis="y")
        panel.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
        panel.set_ylim(rows - 0.5, -0.5)
    panels[0].set_yticks(range(len(servers)), [_label(each) for each in servers])
    panels[0].tick_params(axis="y", labelcolor=INK)
    types = lower.subplots(1, 1)
    _cards(types, story, colors)
    style(types)
    _legend(upper, story)
    figure.suptitle(story.title, color=INK, fontsize=13, fontweight="bold")
    figure.savefig(path)


def _servers(story: Story) -> list[Server]:
    """The servers of the picture: all, or the dearest."""
    servers = list(story.after.system.servers)
    if len(servers) <= _MOST_SERVERS:
        return servers

    def cost(server: Server) -> float:
        scenes = (story.before, story.after)
        found = [scene.allocations.get(server.name) for scene in scenes]
        return max((each.total_cost_per_hour for each in found if each), default=0.0)

    dearest = {each.name for each in sorted(servers, key=cost, reverse=True)[:_MOST_SERVERS]}
    return [server for server in servers if server.name in dearest]


def _label(server: Server) -> str:
    return f"{server.name}  ({server.service_class})"


def _colors(story: Story) -> dict[str, tuple[float, float, float, float]]:
    types = dict.fromkeys(each.type for each in story.after.system.accelerators)
    return {name: colormaps["tab10"](at % 10) for at, name in enumerate(types)}


def _assignment(
    axes: Axes,
    story: Story,
    servers: list[Server],
    colors: Mapping[str, tuple[float, float, float, float]],
) -> None:
    """Cards of each server, coloured by type, the earlier scene above and pale."""
    head(axes, "Cards")
    longest = 1.0
    for scene, shift, alpha in _lanes(story):
        counter = CardCounter(scene.system)
        for at, server in enumerate(servers):
            found = scene.allocations.get(server.name)
            left = 0.0
            for kind, cards in counter.of(server.model, found).items() if found else ():
                axes.barh(at + shift, cards, _BAR, left=left, color=colors[kind], alpha=alpha)
                left += cards
            longest = max(longest, left)
            axes.annotate(
                _runs(found) + (", short" if found and server.name in scene.short else ""),
                (left, at + shift),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=_text_color(story, scene, server),
            )
    axes.set_xlim(0, 1.75 * longest)


def _text_color(story: Story, scene: Scene, server: Server) -> str:
    if server.name in scene.short or server.name not in scene.allocations:
        return WARNING
    return INK if scene is story.after else MUTED


def _runs(found: Allocation | None) -> str:
    if found is None:
        return "nothing"
    parts = [f"{each.replicas} of {each.accelerator}" for each in found.variants or (found,)]
    return " + ".join(parts) if found.total_replicas else "none needed"


def _lanes(story: Story) -> tuple[tuple[Scene, float, float], ...]:
    """Each scene with its place beside the row's middle, and how strong it is drawn."""
    return (story.before, -0.5 * _BAR, _PALE), (story.after, 0.5 * _BAR, 1.0)


def _cost(axes: Axes, story: Story, servers: list[Server]) -> None:
    totals = []
    for scene, shift, alpha in _lanes(story):
        costs = [_cost_of(scene, server.name) for server in servers]
        places = np.arange(len(servers)) + shift
        axes.barh(places, costs, _BAR, color=BLUE, alpha=alpha)
        whole = sum(each.total_cost_per_hour for each in scene.allocations.values())
        totals.append(f"{whole:,.0f}")
    head(axes, f"Cents/h: {totals[0]} → {totals[1]}")


def _cost_of(scene: Scene, server: str) -> float:
    found = scene.allocations.get(server)
    return found.total_cost_per_hour if found else 0.0


def _latency(axes: Axes, story: Story, servers: list[Server], what: str) -> None:
    """Each latency as a share of its target; the last scene is filled."""
    places = np.arange(len(servers))
    axes.axvline(1.0, color=WARNING, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.axvspan(1.0, _EDGE * 1.1, color=WARNING, alpha=0.06, linewidth=0)
    scenes = [(story.before, "o", MUTED, "none")]
    if story.unchanged is not None:
        scenes.append((story.unchanged, "x", WARNING, WARNING))
    scenes.append((story.after, "o", BLUE, BLUE))
    for scene, marker, edge, face in scenes:
        shares = np.array([_share(scene, server, what) for server in servers])
        shown = np.minimum(shares, _EDGE)
        axes.plot(
            shown,
            places,
            marker,
            markeredgecolor=edge,
            markerfacecolor=face,
            markersize=6,
            zorder=4,
            clip_on=False,
        )
    axes.set_xlim(0, _EDGE * 1.1)
    axes.set_xticks([0, 0.5, 1.0, 1.5, _EDGE], ["0", "50 %", "target", "150 %", "200 %+"])
    head(axes, f"{what}, share of its target")


def _share(scene: Scene, server: Server, what: str) -> float:
    found = scene.allocations.get(server.name)
    target = next(
        (
            each
            for service in scene.system.classes
            if service.name == server.service_class
            for each in service.targets
            if each.model == server.model
        ),
        None,
    )
    if found is None or target is None or not found.total_replicas:
        return float("nan")
    parts = found.variants or (found,)
    latency = max(each.itl_ms if what == "ITL" else each.ttft_ms for each in parts)
    limit = target.itl_ms if what == "ITL" else target.ttft_ms
    return latency / limit if limit > 0 else float("nan")


def _cards(
    axes: Axes, story: Story, colors: Mapping[str, tuple[float, float, float, float]]
) -> None:
    """Cards in use of each type, in the frame of those there are."""
    types = list(colors)
    places = np.arange(len(types), dtype=np.float64)
    limited = not story.after.system.options.unlimited
    for scene, shift, alpha in _lanes(story):
        used = CardCounter(scene.system).used(scene.allocations)
        at: FloatArray = places + shift
        counts = [used[each] for each in types]
        there = [scene.system.capacity.get(each, 0) if limited else 0 for each in types]
        axes.bar(at, counts, _BAR, color=[colors[each] for each in types], alpha=alpha)
        if limited:
            axes.hlines(there, at - _BAR / 2, at + _BAR / 2, color=INK, linewidth=1.6)
        for place, count, most in zip(at, counts, there, strict=True):
            axes.annotate(
                f"{count} of {most}" if limited else str(count),
                (place, max(count, most)),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK if scene is story.after else MUTED,
            )
    axes.set_xticks(places, types, color=INK)
    axes.margins(y=0.18)
    head(axes, "Cards in use by type; the line is what there is" if limited else "Cards in use")


def _legend(figure: SubFigure, story: Story) -> None:
    handles: list[Patch | Line2D] = [
        Patch(color=MUTED, alpha=_PALE, label=story.before.name),
        Patch(color=MUTED, label=story.after.name),
        Line2D(
            [], [], linestyle="", marker="o", color=MUTED, markerfacecolor="none",
            label=story.before.name,
        ),
    ]  # fmt: skip
    if story.unchanged is not None:
        name = story.unchanged.name
        handles.append(Line2D([], [], linestyle="", marker="x", color=WARNING, label=name))
    handles.append(Line2D([], [], linestyle="", marker="o", color=BLUE, label=story.after.name))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
