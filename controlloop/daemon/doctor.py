"""Looks for what keeps the loop from working, and says what to do about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from controlloop.api.assembly import unknown_names
from controlloop.api.holds import HoldReason
from controlloop.api.observation import Observation, ServerObservation, Signals
from controlloop.api.readings import Missing, Present, Reading
from controlloop.clock import Clock, Deadline
from controlloop.errors import ClusterError, ControlLoopError, DeadlineError, InputError
from controlloop.kube.access import Holder, Right
from controlloop.protocols import Sensor, Source

MOST_SKEW_S: Final = 5.0


class Level(StrEnum):
    """How bad it is: OK, something less is done, or nothing works."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, what was found, and what to do; "" is nothing to do."""

    level: Level
    subject: str
    found: str
    advice: str = ""


class Account(Protocol):
    """What the API server says of this account; `kube.access.ApiAccount` is one."""

    def allows(self, right: Right, timeout_s: float) -> bool:
        """Whether it has the right."""
        ...

    def holder(self, namespace: str, name: str, timeout_s: float) -> Holder | None:
        """Who holds a Lease; None where there is none."""
        ...

    def version(self, timeout_s: float) -> str:
        """The API server's version."""
        ...

    def clock(self, timeout_s: float) -> float | None:
        """Its time; None where it does not say."""
        ...


ADVICE: Final[Mapping[HoldReason, str]] = {
    HoldReason.LABELS_INVALID: "mend the label or annotation",
    HoldReason.DUPLICATE_NAME: (
        "give each Deployment its own inferno.server.name; where one is a sibling, turn"
        " actuator.siblings on, or delete that one once the other has the replicas it needs"
    ),
    HoldReason.SIBLING_ALONE: "have its primary managed again, as it was, or delete the sibling",
    HoldReason.UNKNOWN_MODEL: "add the model's performance data, or mend the label",
    HoldReason.UNKNOWN_CLASS: "add the class with a target for the model, or mend the label",
    HoldReason.UNKNOWN_ACCELERATOR: "add the accelerator to the data, or mend the label",
    HoldReason.OTHER_SCALER: "remove the other scaler, or the label inferno.server.managed",
    HoldReason.UNPLACED: "add nodes, or mend what keeps its pods from those that there are",
    HoldReason.GROWTH_NOT_READY: "see why its new pods do not become ready: kubectl describe pod",
    HoldReason.PAUSED: "remove the annotation that pauses it when it is to be managed again",
    HoldReason.INERT: "see that the metric source scrapes its pods, with their namespace and pod",
}


class Doctor:
    """Examines one configuration against one cluster. Nothing is changed anywhere.

    Args:
        account: the API server's view of this account.
        needs: the rights that the loop will use.
        source: the data, whose names the servers use.
        sensor: observes as a cycle would; None where the configuration cannot give one.
        queries: what the metric source is asked, by signal; empty where there is none.
        clock: ours.
        timeout_s: of each request.
        lease: namespace and name of the Lease; None where none is taken.

    """

    def __init__(
        self,
        account: Account,
        needs: Iterable[Right],
        source: Source,
        sensor: Sensor,
        queries: Mapping[str, str],
        clock: Clock,
        timeout_s: float = 10.0,
        lease: tuple[str, str] | None = None,
    ) -> None:
        self._account = account
        self._needs = tuple(needs)
        self._source = source
        self._sensor = sensor
        self._queries = queries
        self._clock = clock
        self._timeout_s = timeout_s
        self._lease = lease

    def examine(self) -> Iterator[Finding]:
        """Every finding, as it is found; after an API server that is silent there is no more."""
        try:
            version = self._account.version(self._timeout_s)
        except ControlLoopError as error:
            advice = "check --kubeconfig and --context, the network, and that the token is valid"
            yield Finding(Level.PROBLEM, "API server", str(error), advice)
            return
        yield Finding(Level.OK, "API server", f"answers, version {version}")
        yield from self._skew()
        yield from self._rights()
        yield from self._leader()
        try:
            seen = self._observe()
        except ControlLoopError as error:
            advice = "see the permissions above" if isinstance(error, ClusterError) else ""
            yield Finding(Level.PROBLEM, "fleet", str(error), advice)
            return
        yield from self._fleet(seen)
        yield from self._names(seen)
        yield from self._metrics(seen)

    def _observe(self) -> Observation:
        deadline = Deadline(self._clock, 4 * self._timeout_s)
        return self._sensor.observe(self._clock.now(), deadline)

    def _skew(self) -> Iterator[Finding]:
        try:
            theirs = self._account.clock(self._timeout_s)
        except (ClusterError, DeadlineError):
            theirs = None
        if theirs is None:
            return
        skew_s = theirs - self._clock.now()
        if abs(skew_s) > MOST_SKEW_S:
            found = f"the API server's is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
            advice = "synchronise both: ages of pods and samples are told by them"
            yield Finding(Level.WARNING, "clock", found, advice)
        else:
            yield Finding(Level.OK, "clock", "agrees with the API server's")

    def _leader(self) -> Iterator[Finding]:
        if self._lease is None:
            return
        try:
            holder = self._account.holder(*self._lease, self._timeout_s)
        except ControlLoopError as error:
            yield Finding(Level.WARNING, "lease", str(error))
            return
        if holder is None or holder.renewed_at is None:
            yield Finding(Level.OK, "lease", "no daemon has run yet")
            return
        age_s = self._clock.now() - holder.renewed_at
        # Told by two clocks: only what their difference does not explain is worth a word.
        if not holder.identity:
            found, advice = "nobody holds it: no daemon runs", "start one, or see its log"
            yield Finding(Level.WARNING, "lease", found, advice)
        elif age_s > holder.duration_s + MOST_SKEW_S:
            found = f"{holder.identity} holds it and has not renewed it for {age_s:.0f} s"
            yield Finding(Level.WARNING, "lease", found, "see that the daemon runs, and its log")
        else:
            yield Finding(Level.OK, "lease", f"{holder.identity} decides and writes")

    def _rights(self) -> Iterator[Finding]:
        lacking = 0
        for right in self._needs:
            try:
                allowed = self._account.allows(right, self._timeout_s)
            except ControlLoopError as error:
                yield Finding(Level.WARNING, "permissions", str(error))
                return
            if allowed:
                continue
            lacking += 1
            level = Level.PROBLEM if right.essential else Level.WARNING
            advice = "grant it, as the roles in deploy/ do"
            yield Finding(level, "permissions", f"may not {right}: {right.without}", advice)
        if not lacking:
            yield Finding(Level.OK, "permissions", f"all {len(self._needs)} that are used")

    def _fleet(self, seen: Observation) -> Iterator[Finding]:
        if not seen.servers:
            advice = 'label a Deployment inferno.server.managed: "true" and the others'
            yield Finding(Level.WARNING, "fleet", "no managed Deployment was found", advice)
            return
        yield Finding(Level.OK, "fleet", f"{len(seen.servers)} managed Deployments")
        if seen.capacity is not None and not any(seen.capacity.values()):
            advice = "see capacity.accelerator_types and the nodes' labels, taints and readiness"
            yield Finding(Level.PROBLEM, "capacity", "no cards on any node", advice)
        for server in seen.servers:
            for hold in server.all_holds:
                if hold.reason in ADVICE and hold.reason is not HoldReason.INERT:
                    found = f"{hold.reason}: {hold.detail}"
                    level = Level.OK if hold.reason is HoldReason.PAUSED else Level.WARNING
                    yield Finding(level, server.name, found, ADVICE[hold.reason])

    def _names(self, seen: Observation) -> Iterator[Finding]:
        try:
            catalog = self._source.load()
        except InputError as error:
            for problem in error.problems:
                file = problem.source or error.source
                yield Finding(Level.PROBLEM, "data", f"{file}: {problem}", "see controlloop check")
            return
        for server in seen.servers:
            for workload in (server.workload, *server.siblings):
                for hold in unknown_names(catalog, workload):
                    found = f"{hold.reason}: {hold.detail}, of {workload.ref}"
                    yield Finding(Level.WARNING, server.name, found, ADVICE[hold.reason])

    def _metrics(self, seen: Observation) -> Iterator[Finding]:
        if not self._queries:
            advice = "set prometheus.url, unless the load labels are what you want"
            yield Finding(Level.WARNING, "metrics", "no metric source is configured", advice)
            return
        if seen.metrics_problem:
            advice = "check prometheus.url, its credentials and its certificate authority"
            yield Finding(Level.PROBLEM, "metrics", seen.metrics_problem, advice)
            return
        quiet = 0
        for server in seen.servers:
            if not server.workload.pods:
                quiet += 1
                yield _without_pods(server)
                continue
            empty = list(_unseen(server.signals, self._queries))
            quiet += bool(empty)
            yield from self._unseen(server, empty)
        if seen.servers and not quiet:
            yield Finding(Level.OK, "metrics", "every server shows every signal")

    def _unseen(self, server: ServerObservation, empty: list[tuple[str, str]]) -> Iterator[Finding]:
        if not empty:
            return
        if len(empty) == len(self._queries):
            # All for one reason: one query is enough to look into it.
            signal, why = empty[0]
            found = f"inert, {why}; asked: {self._queries[signal]}"
            yield Finding(Level.PROBLEM, server.name, found, ADVICE[HoldReason.INERT])
            return
        for signal, why in empty:
            found = f"no {signal}: {why}; asked: {self._queries[signal]}"
            advice = "it never shrinks until this is known; see collector.dialects"
            yield Finding(Level.WARNING, server.name, found, advice)


def _without_pods(server: ServerObservation) -> Finding:
    """Nothing shows demand where no pod is: no fault of the metric source's."""
    replicas = server.workload.replicas
    found = f"has no pods of the {replicas} it asks for; its load is not known, it is left as it is"
    advice = "see why none is made: its events, quotas, nodes" if replicas else "scale it up once"
    return Finding(Level.WARNING, server.name, found, advice)


def _unseen(signals: Signals, queries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Signals of which nothing is seen, and why; without traffic lengths and latencies are not."""
    rate = signals.arrival_rate_rps
    idle = isinstance(rate, Present) and rate.value == 0
    readings: Mapping[str, tuple[Callable[[Signals], Reading], bool]] = {
        "finished requests": (lambda one: one.completion_rate_rps, False),
        "running requests": (lambda one: one.running, False),
        "waiting requests": (lambda one: one.waiting, False),
        "input tokens": (lambda one: one.input_tokens, True),
        "output tokens": (lambda one: one.output_tokens, True),
        "time to first token": (lambda one: one.ttft_ms, True),
        "inter-token latency": (lambda one: one.itl_ms, True),
    }
    for signal, (reading_of, needs_traffic) in readings.items():
        reading = reading_of(signals)
        if signal in queries and not (idle and needs_traffic) and isinstance(reading, Missing):
            yield signal, reading.reason
