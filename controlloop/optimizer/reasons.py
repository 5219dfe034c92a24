"""Why servers are not served, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates, Fault, Infeasible
from controlloop.api.replicas import IntArray
from controlloop.api.solution import Unserved, UnservedReason
from controlloop.api.system import Server

_REASON: Final = {
    Fault.NO_PERF_DATA: UnservedReason.NO_PERF_DATA,
    Fault.TTFT_UNREACHABLE: UnservedReason.TARGET_UNREACHABLE,
    Fault.ITL_UNREACHABLE: UnservedReason.TARGET_UNREACHABLE,
    Fault.NOT_CONVERGED: UnservedReason.NOT_CONVERGED,
    Fault.INVALID_DATA: UnservedReason.INVALID_DATA,
    Fault.ABOVE_MAXIMUM: UnservedReason.AT_MAXIMUM,
    Fault.NO_PERCENTILES: UnservedReason.NO_PERCENTILES,
}
# Which of several reasons is told first: the one that a person can do most about.
_TOLD_FIRST: Final = (
    Fault.TTFT_UNREACHABLE,
    Fault.ITL_UNREACHABLE,
    Fault.NO_PERCENTILES,
    Fault.NOT_CONVERGED,
    Fault.INVALID_DATA,
    Fault.NO_PERF_DATA,
)


def describe_fault(infeasible: Infeasible, accelerators: Sequence[str], at: int) -> str:
    """Why entry `at` of `infeasible` is no candidate."""
    name = accelerators[infeasible.accelerator[at]]
    fault, target, floor = infeasible.fault[at], infeasible.target[at], infeasible.floor[at]
    if fault in (Fault.TTFT_UNREACHABLE, Fault.ITL_UNREACHABLE):
        what = "TTFT" if fault == Fault.TTFT_UNREACHABLE else "ITL"
        tail = infeasible.percentile[at]
        of = f" p{tail:g}" if tail else ""
        sure = f" with confidence {infeasible.confidence:g}" if infeasible.confidence else ""
        return (
            f"{what}{of} {target:g} ms is below the least possible {_ms(floor)} ms on {name}{sure}"
        )
    if fault == Fault.ABOVE_MAXIMUM:
        return f"needs {_count(int(floor), 'replica')} of {name}, {_allowed(int(target))}"
    if fault == Fault.NO_PERCENTILES:
        return f"{infeasible.notes[int(infeasible.note[at])]} ({name})"
    if fault == Fault.INVALID_DATA:
        return infeasible.notes[int(infeasible.note[at])]
    if fault == Fault.NOT_CONVERGED:
        return f"the greatest rate on {name} could not be found to the precision needed"
    return f"no performance data on {name}"


def why_no_candidate(
    server: Server, infeasible: Infeasible, accelerators: Sequence[str], at: int
) -> Unserved:
    """Why server number `at` has no candidate: the nearest miss, and how many others there are."""
    first, last = np.searchsorted(infeasible.server, [at, at + 1])
    mine = np.arange(first, last)
    for fault in _TOLD_FIRST:
        of_kind = mine[infeasible.fault[mine] == fault]
        if not len(of_kind):
            continue
        if fault is Fault.NO_PERF_DATA:
            names = ", ".join(accelerators[a] for a in infeasible.accelerator[of_kind])
            detail = f'no performance data of model "{server.model}" on {names}'
        else:
            detail = describe_fault(infeasible, accelerators, _nearest(infeasible, of_kind))
            detail += _others(infeasible, mine)
        return Unserved(server.name, _REASON[fault], detail)
    return Unserved(server.name, UnservedReason.NO_PERF_DATA, "there is no accelerator")


def why_short(
    candidates: Candidates, row: int, replicas: int, left: Mapping[str, int] | None
) -> Unserved:
    """Why a server got only `replicas` of the candidate `row`, 0 for nothing.

    Args:
        candidates: the candidates.
        row: the candidate it got part of, or its first choice.
        replicas: what it got of it.
        left: cards that are left of each type, None where there are always enough.

    """
    server = int(candidates.server[row])
    name = candidates.servers[server]
    wanted = int(candidates.needed_replicas[row])
    at = int(candidates.accelerator[row])
    accelerator = candidates.accelerators[at] if at >= 0 else "any accelerator"
    allowed = int(candidates.replicas[row])
    if replicas == allowed < wanted:
        detail = f"needs {_count(wanted, 'replica')} of {accelerator}, {_allowed(allowed)}"
        return Unserved(name, UnservedReason.AT_MAXIMUM, detail)
    each = int(candidates.cards_per_replica[row])
    card_type = candidates.types[candidates.card_type[row]]
    remain = "" if left is None else f", {left[card_type]} of type {card_type} left"
    if replicas:
        detail = f"{replicas} of {_count(allowed, 'replica')} of {accelerator}: one takes"
        return Unserved(
            name, UnservedReason.NO_CAPACITY, f"{detail} {_count(each, 'card')}{remain}"
        )
    others = int(candidates.start[server + 1] - candidates.start[server]) - 1
    replicas_of = f"{_count(allowed, 'replica')} of {accelerator}"
    detail = f"needs {_count(allowed * each, 'card')} for {replicas_of}{remain}"
    if others == 1:
        detail += "; the other accelerator does not fit either"
    elif others:
        detail += f"; none of the {others} other accelerators fits either"
    return Unserved(name, UnservedReason.NO_CAPACITY, detail)


def _nearest(infeasible: Infeasible, entries: IntArray) -> int:
    """The entry whose target is missed by least, the first where none has a target."""
    miss = np.nan_to_num(infeasible.floor[entries] / infeasible.target[entries], nan=np.inf)
    return int(entries[np.argmin(miss)])


def _others(infeasible: Infeasible, entries: IntArray) -> str:
    others = infeasible.fault[entries]
    missing = int(np.sum(others == Fault.NO_PERF_DATA))
    tried = len(others) - missing
    parts = []
    if tried > 1:
        parts.append(f"the nearest of {tried} accelerators")
    if missing:
        parts.append(f"no performance data on {missing} more")
    return f" ({'; '.join(parts)})" if parts else ""


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _allowed(count: int) -> str:
    return f"at most {count} allowed" if count else "none allowed"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
