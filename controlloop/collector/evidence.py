"""What must be known before anything shrinks: each thing that is not known is a typed hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Signals
from controlloop.api.readings import Missing, Present, Reading, Stale, value_of
from controlloop.collector.server import Evidence, is_for_lack_of_traffic

MOST_NAMED = 3
LENGTHS = ("input tokens", "output tokens")


def holds_of(signals: Signals, evidence: Evidence) -> tuple[Hold, ...]:
    """Everything that the signals and the evidence forbid.

    Without an arrival rate, or with arrivals of unknown length, there is no load to decide by:
    that forbids every change. All else forbids a decrease alone.
    """
    return (
        *_unknown_load(signals, evidence),
        *_unknown_signals(signals),
        *_unknown_gateway(evidence),
        *_pods(evidence),
        *_waiting(signals, evidence),
        *_lengths(signals, evidence),
    )


def _unknown_load(signals: Signals, evidence: Evidence) -> Iterable[Hold]:
    rate = signals.arrival_rate_rps
    if evidence.inert and isinstance(rate, Missing):
        detail = (
            f"{signals.expected_pods} pods run and the metric source has no series of any: "
            "are they scraped, and do the series say namespace and pod?"
        )
        yield Hold(HoldReason.INERT, Forbids.CHANGE, detail)
    elif not isinstance(rate, Present):
        yield _hold_of("arrival rate", rate, Forbids.CHANGE)


def _unknown_signals(signals: Signals) -> Iterable[Hold]:
    if not isinstance(signals.arrival_rate_rps, Present):
        return
    arrivals = signals.arrival_rate_rps.value > 0
    for name, reading in _others(signals).items():
        if isinstance(reading, Present) or is_for_lack_of_traffic(reading):
            continue
        if not (arrivals and name in LENGTHS):
            yield _hold_of(name, reading, Forbids.DECREASE)


def _unknown_gateway(evidence: Evidence) -> Iterable[Hold]:
    if evidence.gateway is not None:
        detail = f"gateway counter: {evidence.gateway}"
        yield Hold(HoldReason.SIGNAL_MISSING, Forbids.DECREASE, detail)


def _pods(evidence: Evidence) -> Iterable[Hold]:
    if evidence.gone:
        detail = f"gone within the window: {_some(evidence.gone)}"
        yield Hold(HoldReason.POD_GONE, Forbids.DECREASE, detail)
    if evidence.restarted:
        detail = f"restarted within the window: {_some(evidence.restarted)}"
        yield Hold(HoldReason.POD_RESTARTED, Forbids.DECREASE, detail)
    if evidence.silent:
        detail = _some([f"{pod} ({how})" for pod, how in evidence.silent.items()])
        yield Hold(HoldReason.POD_NOT_REPORTING, Forbids.DECREASE, detail)


def _waiting(signals: Signals, evidence: Evidence) -> Iterable[Hold]:
    waiting = signals.waiting
    if not isinstance(waiting, Missing) and waiting.value > 0:
        detail = f"{waiting.value:.0f} requests wait"
        yield Hold(HoldReason.REQUESTS_WAITING, Forbids.DECREASE, detail)
    elif evidence.lost > 0:
        detail = f"{evidence.lost:.0f} requests left without being counted: aborted while waiting"
        yield Hold(HoldReason.REQUESTS_WAITING, Forbids.DECREASE, detail)


def _lengths(signals: Signals, evidence: Evidence) -> Iterable[Hold]:
    rate = value_of(signals.arrival_rate_rps)
    if not rate:
        return
    readings = (signals.input_tokens, signals.output_tokens)
    unknown = [
        f"{name}: {_words(reading)}"
        for name, reading in zip(LENGTHS, readings, strict=True)
        if not isinstance(reading, Present)
    ]
    if unknown:
        detail = f"{rate:.2f} requests/s of unknown length: {'; '.join(unknown)}"
        yield Hold(HoldReason.TOKENS_UNKNOWN, Forbids.CHANGE, detail)
    elif evidence.lengths_since_start:
        detail = "no request ended within the window: lengths are the means since the start"
        yield Hold(HoldReason.TOKENS_UNKNOWN, Forbids.DECREASE, detail)


def _others(signals: Signals) -> Mapping[str, Reading]:
    return {
        "completion rate": signals.completion_rate_rps,
        "running requests": signals.running,
        "waiting requests": signals.waiting,
        LENGTHS[0]: signals.input_tokens,
        LENGTHS[1]: signals.output_tokens,
        "time to first token": signals.ttft_ms,
        "inter-token latency": signals.itl_ms,
    }


def _hold_of(name: str, reading: Missing | Stale, forbids: Forbids) -> Hold:
    stale = isinstance(reading, Stale)
    reason = HoldReason.SIGNAL_STALE if stale else HoldReason.SIGNAL_MISSING
    return Hold(reason, forbids, f"{name}: {_words(reading)}")


def _words(reading: Reading) -> str:
    if isinstance(reading, Missing):
        return reading.reason
    return f"last known {reading.age_s:.0f} s ago"


def _some(names: Iterable[str]) -> str:
    everybody = list(names)
    more = len(everybody) - MOST_NAMED
    return ", ".join(everybody[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
