"""Loads from the workloads' own labels, for clusters where nothing measures them."""

from __future__ import annotations

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import ServerObservation, Signals, Workload
from controlloop.api.readings import Missing, Present, Reading

NO_SOURCE = "no metric source is configured"


def observe_labels(workload: Workload) -> ServerObservation:
    """A server whose load is what its `.load.*` labels say.

    Only for where no metric source is configured: labels never stand in for one that fails.
    """
    load = workload.static_load
    if load is None:
        reason = f"{NO_SOURCE} and the labels give no load"
        hold = Hold(HoldReason.SIGNAL_MISSING, Forbids.CHANGE, f"arrival rate: {reason}")
        return ServerObservation(workload, _signals(*[Missing(reason)] * 3), (hold,))
    lengths: tuple[Reading, Reading] = (Present(load.input_tokens), Present(load.output_tokens))
    holds: tuple[Hold, ...] = ()
    if load.output_tokens <= 0:
        lengths = (lengths[0], Missing("the labels give no output tokens"))
        if load.rate_rps > 0:
            detail = f"{load.rate_rps:.2f} requests/s of unknown length: the labels give none"
            holds = (Hold(HoldReason.TOKENS_UNKNOWN, Forbids.CHANGE, detail),)
    return ServerObservation(workload, _signals(Present(load.rate_rps), *lengths), holds)


def _signals(rate_rps: Reading, input_tokens: Reading, output_tokens: Reading) -> Signals:
    unmeasured = Missing(NO_SOURCE)
    return Signals(
        arrival_rate_rps=rate_rps,
        completion_rate_rps=unmeasured,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        ttft_ms=unmeasured,
        itl_ms=unmeasured,
        running=unmeasured,
        waiting=unmeasured,
    )
