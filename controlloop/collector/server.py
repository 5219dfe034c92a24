"""One server's signals from what its pods show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from controlloop.api.observation import Signals
from controlloop.api.readings import Missing, Present, Reading, Stale
from controlloop.collector.aggregate import NO_TRAFFIC, Mean, Share, Window, averaged, summed
from controlloop.collector.census import Census, Member
from controlloop.collector.dialects import Signal, Vocabulary
from controlloop.collector.fleet import Fleet, PodKey
from controlloop.collector.flow import Flow
from controlloop.collector.pods import PodReading, read_pod
from controlloop.units import ms_from_s

FLOW_SIGNALS = (Signal.FINISHED, Signal.RUNNING, Signal.WAITING)
LENGTHS = (Signal.INPUT_TOKENS, Signal.OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a server beside its signals.

    Attributes:
        inert: its pods carry load and the metric source has no series of any of them.
        silent: pods that did not report at some time within the window, and how.
        gone: pods that are gone.
        restarted: pods that restarted.
        lost: requests that left without being counted.
        lengths_since_start: token lengths are means since the engines' start.
        gateway: why the gateway's counter gives nothing; None where it does or there is none.

    """

    inert: bool = False
    silent: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    lost: float = 0.0
    lengths_since_start: bool = False
    gateway: str | None = None


def read_server(
    fleet: Fleet, words: Vocabulary, census: Census, window: Window, gateway: Reading | None
) -> tuple[Signals, Evidence]:
    """The signals of one server, and what else its series show.

    Args:
        fleet: the answers of the metric source.
        words: the names of the metrics.
        census: the server's pods.
        window: the time that is looked at.
        gateway: arrivals by the gateway's counter; None where none is configured.

    """
    server = _Server.of(fleet, words, census, window)
    means = {signal: server.mean(signal) for signal in words.ratios}
    conserved = server.rate(lambda flow: flow.arrived)
    signals = Signals(
        arrival_rate_rps=_preferred(gateway, conserved),
        completion_rate_rps=server.rate(lambda flow: flow.completed),
        input_tokens=means[Signal.INPUT_TOKENS].reading,
        output_tokens=_some_output(means[Signal.OUTPUT_TOKENS].reading),
        ttft_ms=_in_ms(means[Signal.TTFT].reading),
        itl_ms=_in_ms(means[Signal.ITL].reading),
        running=server.level(Signal.RUNNING),
        waiting=server.level(Signal.WAITING),
        reported_pods=len(server.fresh),
        expected_pods=len(server.fresh | {one.key for one in census.members if one.counted}),
    )
    evidence = Evidence(
        inert=server.inert,
        silent=server.silent,
        gone=tuple(key[1] for key in census.former if key not in server.fresh),
        restarted=server.restarted(census),
        lost=sum(flow.lost for pod in server.pods.values() for flow in pod.flows),
        lengths_since_start=any(means[signal].since_start for signal in LENGTHS),
        gateway=_gateway_fault(gateway),
    )
    return signals, evidence


@dataclass(frozen=True, slots=True)
class _Server:
    """The pods of one server, those that are gone included, with what they show."""

    fleet: Fleet
    members: Mapping[PodKey, Member]
    pods: Mapping[PodKey, PodReading]
    window: Window

    @classmethod
    def of(cls, fleet: Fleet, words: Vocabulary, census: Census, window: Window) -> _Server:
        members = {member.key: member for member in census.members}
        everybody = dict.fromkeys((*members, *census.former))
        pods = {key: read_pod(fleet, words, key) for key in everybody}
        return cls(fleet, members, pods, window)

    @property
    def fresh(self) -> set[PodKey]:
        """Pods that are there and report now."""
        return {key for key in self.members if self.window.is_fresh(self.pods[key].last)}

    @property
    def inert(self) -> bool:
        carrying = any(member.carries for member in self.members.values())
        known = any(self.pods[key].known for key in self.members)
        return carrying and not known and self._problem(tuple(Signal)) is None

    @property
    def silent(self) -> dict[str, str]:
        if self.inert or self._problem(FLOW_SIGNALS) is not None:
            return {}
        carrying = (member for member in self.members.values() if member.carries)
        found = {member.key[1]: self._silence(member) for member in carrying}
        return {name: how for name, how in found.items() if how}

    def restarted(self, census: Census) -> tuple[str, ...]:
        fell = {key[1] for key in self.pods if any(flow.restarted for flow in self.pods[key].flows)}
        return tuple(sorted(fell.union(census.restarted)))

    def rate(self, quantity: Callable[[Flow], float]) -> Reading:
        """A quantity of the flow per second.

        A pod that was there all the time is taken over the time between its own two samples;
        what a pod did that came or went meanwhile counts over the time of the whole server,
        since before and after it the others carried its part.
        """
        fresh = self.fresh
        heard = [key for key in self.members if key in fresh or self.members[key].counted]
        heard = [key for key in heard if self.pods[key].flows]
        gone = [flow for key, pod in self.pods.items() if key not in heard for flow in pod.flows]
        span_s = self._span_s()
        shares = [
            Share(
                self.members[key],
                sum(
                    quantity(flow) / (span_s if self.members[key].young else flow.span_s)
                    for flow in self.pods[key].flows
                ),
                self.pods[key].last,
            )
            for key in heard
        ]
        extra = sum(quantity(flow) for flow in gone) / span_s if gone else 0.0
        return summed(
            shares, tuple(self.members.values()), self.window, self._why(FLOW_SIGNALS), extra
        )

    def level(self, signal: Signal) -> Reading:
        """The sum of a gauge."""
        shares = [
            Share(member, level.value, level.last)
            for key, member in self.members.items()
            if (level := self.pods[key].levels.get(signal)) is not None
            and (member.counted or self.window.is_fresh(level.last))
        ]
        return summed(shares, tuple(self.members.values()), self.window, self._why((signal,)))

    def mean(self, signal: Signal) -> Mean:
        """The mean of a signal over all requests of the window."""
        tallies = [tally for key in self.members for tally in self.pods[key].tallies[signal]]
        why = self._why((signal,))
        return averaged(tallies, self.window, why, reach_back=signal in LENGTHS)

    def _span_s(self) -> float:
        flows = [flow for pod in self.pods.values() for flow in pod.flows]
        if not flows:
            return 0.0
        return max(flow.last for flow in flows) - min(flow.first for flow in flows)

    def _silence(self, member: Member) -> str:
        """How a pod did not report within the window, "" where it did all the time."""
        pod, window = self.pods[member.key], self.window
        if not pod.flows:
            return pod.why
        if not window.is_fresh(pod.last):
            return f"last sample {window.age_s(pod.last):.0f} s ago"
        begin = window.now - window.length_s
        late_s = 0.0 if member.young else max(flow.first - begin for flow in pod.flows)
        gap_s = max(late_s, *(flow.longest_gap_s for flow in pod.flows))
        return f"no sample for {gap_s:.0f} s" if gap_s > window.stale_after_s else ""

    def _problem(self, signals: Sequence[Signal]) -> str | None:
        problems = (self.fleet.answers[signal].problem for signal in signals)
        return next((problem for problem in problems if problem), None)

    def _why(self, signals: Sequence[Signal]) -> str:
        """Why no pod gives a reading of `signals`."""
        problem = self._problem(signals)
        if problem is not None:
            return problem
        carrying = [member.key for member in self.members.values() if member.carries]
        if not carrying:
            return (
                f"none of its {len(self.members)} pods carries load" if self.members else "no pods"
            )
        if not any(self.pods[key].known for key in carrying):
            return f"none of its {len(carrying)} pods has a series"
        if signals == FLOW_SIGNALS:
            key = next((key for key in carrying if self.pods[key].why), carrying[0])
            return f"pod {key[1]}: {self.pods[key].why or 'no sample in the window'}"
        return f"no pod shows {signals[0]}"


def _preferred(gateway: Reading | None, conserved: Reading) -> Reading:
    """The gateway's own count where it has one, unless more came than it knows of.

    Conservation is a lower bound: a gateway that counts less is passed by, or seen in part.
    """
    if isinstance(gateway, Present):
        more = isinstance(conserved, Present) and conserved.value > gateway.value
        return conserved if more else gateway
    return gateway if isinstance(gateway, Stale) and isinstance(conserved, Missing) else conserved


def _gateway_fault(gateway: Reading | None) -> str | None:
    if isinstance(gateway, Missing):
        return gateway.reason
    if isinstance(gateway, Stale):
        return f"the gateway's newest sample is {gateway.age_s:.0f} s old"
    return None


def _some_output(reading: Reading) -> Reading:
    """Requests without any output token are no load that can be sized for: not a length of 0."""
    if isinstance(reading, Missing) or reading.value > 0:
        return reading
    return Missing("the engine reports requests without output tokens")


def _in_ms(reading: Reading) -> Reading:
    if isinstance(reading, Missing):
        return reading
    return type(reading)(ms_from_s(reading.value), reading.age_s)


def is_for_lack_of_traffic(reading: Reading) -> bool:
    """Whether a reading is missing only because no request came to be measured."""
    return isinstance(reading, Missing) and reading.reason == NO_TRAFFIC
