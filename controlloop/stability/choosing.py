"""Where a server might go: accelerators with a template, and batches that their memory holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controlloop.api.observation import Workload
from controlloop.api.system import Load, PerfParameters

BATCHES: Final = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""The batches that may be chosen: coarse, so that no small change of a load restarts a fleet."""


@dataclass(frozen=True, slots=True)
class Spot:
    """An accelerator and a maximum batch; 0 is not known."""

    accelerator: str
    max_batch: int


def choices_of(
    workload: Workload,
    load: Load,
    perf: Iterable[PerfParameters],
    accelerators: Collection[str],
    wished: Spot | None,
    *,
    batches: bool,
) -> Mapping[str, tuple[int, ...]]:
    """The batches that a server might have on each accelerator, preferred ones first.

    What runs is among them, and first. Where as few replicas do, what was wished for in the
    cycle before comes next, so that a wish does not waver between equals.

    Args:
        workload: the server as it runs.
        load: what it is sized for.
        perf: performance data, of any model.
        accelerators: those with a template.
        wished: where it wanted to go in the cycle before.
        batches: whether it may choose another batch.

    """
    here = Spot(workload.accelerator, workload.max_batch)
    chosen: dict[str, tuple[int, ...]] = {}
    for each in perf:
        stays = each.accelerator == here.accelerator
        if each.model != workload.model or not (stays or each.accelerator in accelerators):
            continue
        if workload.keep_accelerator and not stays:
            continue
        # A batch that its memory does not hold would not start.
        found = [here.max_batch] if stays or here.max_batch <= each.max_batch else []
        # A server that does not say its batch has none to compare others with.
        if batches and here.max_batch and not workload.keep_batch:
            most = most_batch(each, load)
            if wished and wished.accelerator == each.accelerator and wished.max_batch <= most:
                found.append(wished.max_batch)
            found += [batch for batch in BATCHES if batch <= most]
        if found:
            chosen[each.accelerator] = tuple(dict.fromkeys(found))
    return chosen


def most_batch(perf: PerfParameters, load: Load) -> int:
    """The greatest batch that memory holds at the load's output length."""
    if load.is_empty:
        return perf.max_batch
    return int(perf.max_batch * perf.at_tokens / load.output_tokens)
