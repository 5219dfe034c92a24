"""What the series of one pod say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlloop.collector.dialects import Signal, Vocabulary
from controlloop.collector.fleet import Fleet, PodKey
from controlloop.collector.flow import Flow, common_times, flow_of, named, total_at
from controlloop.collector.means import Tally, tally_of
from controlloop.collector.series import Endpoint

STANDS_STILL_AFTER_S = 30.0
"""No engine works so long on what it has in service without a single token."""


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge at its newest sample, added up over the pod's endpoints."""

    value: float
    last: float


@dataclass(frozen=True, slots=True)
class PodReading:
    """What one pod shows.

    Attributes:
        known: whether it has any series at all.
        flows: the flow through each of its endpoints; none unless all of them can be seen.
        why: why `flows` is empty.
        levels: requests running and waiting, where shown.
        tallies: of each signal that is a mean, by endpoint.

    """

    known: bool
    flows: tuple[Flow, ...]
    why: str
    levels: Mapping[Signal, Level]
    tallies: Mapping[Signal, tuple[Tally, ...]]

    @property
    def last(self) -> float:
        """Time of the newest sample that all endpoints with a flow have; -inf without a flow."""
        return min((flow.last for flow in self.flows), default=float("-inf"))


def read_pod(fleet: Fleet, words: Vocabulary, pod: PodKey) -> PodReading:
    """Read one pod."""
    shown = {signal: answer.endpoints(pod) for signal, answer in fleet.answers.items()}
    flows, why = _flows(shown, words)
    gauges = {Signal.RUNNING: words.running, Signal.WAITING: words.waiting}
    levels = {signal: _level(shown[signal].values(), names) for signal, names in gauges.items()}
    tallies = {
        signal: [tally_of(endpoint, ratios) for endpoint in shown[signal].values()]
        for signal, ratios in words.ratios.items()
    }
    if any(map(_stands_still, flows)) and _made_no_token(tallies[Signal.ITL]):
        flows, why = (), "its metrics stand still while requests are in service"
    return PodReading(
        known=any(shown.values()),
        flows=flows,
        why=why,
        levels={signal: level for signal, level in levels.items() if level is not None},
        tallies={
            signal: tuple(one for one in found if one is not None)
            for signal, found in tallies.items()
        },
    )


def _stands_still(flow: Flow) -> bool:
    return flow.still and flow.span_s >= STANDS_STILL_AFTER_S


def _made_no_token(latencies: Sequence[Tally | None]) -> bool:
    seen = [tally.count for tally in latencies if tally is not None]
    return bool(seen) and not any(seen)


def _flows(
    shown: Mapping[Signal, Mapping[str, Endpoint]], words: Vocabulary
) -> tuple[tuple[Flow, ...], str]:
    finished, running, waiting = (
        shown[signal] for signal in (Signal.FINISHED, Signal.RUNNING, Signal.WAITING)
    )
    flows: list[Flow] = []
    for endpoint in sorted({*finished, *running, *waiting}):
        flow = flow_of(
            named(finished.get(endpoint, {}), words.completions),
            named(finished.get(endpoint, {}), words.rejections),
            named(running.get(endpoint, {}), words.running),
            named(waiting.get(endpoint, {}), words.waiting),
        )
        if isinstance(flow, str):
            return (), flow
        flows.append(flow)
    return tuple(flows), "" if flows else "no series"


def _level(endpoints: Iterable[Endpoint], names: Sequence[str]) -> Level | None:
    found: list[Level] = []
    for endpoint in endpoints:
        gauges = named(endpoint, names)
        newest = common_times(gauges)[-1:]
        if newest:
            found.append(Level(total_at(gauges, newest)[0], newest[0]))
    if not found:
        return None
    return Level(sum(one.value for one in found), min(one.last for one in found))
