"""One writer: whoever writes to the cluster holds this Lease.

Clocks of different machines are never compared. Who waits for the Lease watches its record: one
that has not changed for its duration, on our own monotonic clock since we first saw it, belongs
to a holder that is gone. Who holds it counts its duration from the moment before the renewing
request was sent. So the holder stops writing before anyone else begins, however the clocks run.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from controlloop.api.labels import MAINTENANCE
from controlloop.api.observation import WorkloadRef
from controlloop.clock import Clock, SystemClock
from controlloop.errors import ClusterError, ConflictError, NotFoundError
from controlloop.kube.connection import Connection
from controlloop.kube.resources import LEASES
from controlloop.kube.writes import microtime, send_event

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """Which Lease, and how it is kept.

    Attributes:
        namespace: the Lease's namespace.
        name: the Lease's name.
        identity: who holds it, in the words of the record; every process adds a part of its
            own, so that a restarted one never takes the promise of its predecessor for its own.
        duration_s: time after which a holder that does not renew is taken over, whole seconds.
        renew_every_s: time between two renewals, and the time-out of one; less than half of
            `duration_s`, so that one failed renewal costs nothing.
        retry_every_s: time between two looks at a Lease that another holds.

    """

    namespace: str = "inferno"
    name: str = "controlloop"
    identity: str = "controlloop"
    duration_s: int = 15
    renew_every_s: float = 4.0
    retry_every_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.renew_every_s < self.duration_s / 2:
            raise ValueError(
                f"lease: renew_every_s must be more than 0 and less than half of duration_s "
                f"({self.duration_s}), got {self.renew_every_s:g}"
            )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as it was last read, and when this version was first seen (monotonic)."""

    lease: Object
    first_seen: float

    @property
    def version(self) -> str:
        return str(self.lease["metadata"]["resourceVersion"])

    @property
    def holder(self) -> str:
        return self._spec.get("holderIdentity") or ""

    @property
    def transitions(self) -> int:
        return self._spec.get("leaseTransitions") or 0

    @property
    def acquired(self) -> str | None:
        return self._spec.get("acquireTime")

    def runs_out(self, default_s: float) -> float:
        """When its holder counts as gone, as monotonic time; at once where there is none."""
        duration_s = self._spec.get("leaseDurationSeconds") or default_s
        return self.first_seen + duration_s if self.holder else self.first_seen

    @property
    def _spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.lease.get("spec") or {}
        return spec


@dataclass(frozen=True, slots=True)
class _Held:
    """Ours since `since` until `until` without a break, both on the monotonic clock."""

    since: float
    until: float


class Lease:
    """The Lease from the point of view of one process; `step` takes it or keeps it.

    `step` and `release` are for one thread (`LeaseKeeper`'s), everything else for any.
    """

    def __init__(
        self, connection: Connection, options: LeaseOptions, clock: Clock | None = None
    ) -> None:
        self.identity = f"{options.identity}_{uuid.uuid4().hex[:12]}"
        self._connection = connection
        self._options = options
        self._clock = clock or SystemClock()
        self._path = LEASES.path(options.namespace, options.name)
        self._what = LEASES.named(options.namespace, options.name)
        self._seen: _Seen | None = None
        self._held: _Held | None = None
        self._free_at = -math.inf
        self._problem: str | None = None
        self._log = structlog.get_logger(__name__).bind(lease=self._what, identity=self.identity)

    def remaining_s(self) -> float:
        """Seconds for which no other process can become the writer; 0 without the lease."""
        held = self._held
        return max(0.0, held.until - self._clock.monotonic()) if held else 0.0

    def held_for_s(self) -> float:
        """Seconds since this process got the lease, without a break; 0 without it."""
        held, now = self._held, self._clock.monotonic()
        return now - held.since if held and now < held.until else 0.0

    @property
    def holder(self) -> str:
        """Who held it when it was last looked at; "" where that is nobody or unknown."""
        seen = self._seen
        return seen.holder if seen else ""

    def maintenance(self) -> str | None:
        """What its annotation says of a maintenance; None where there is none."""
        seen = self._seen
        if seen is None:
            return None
        said: str | None = (seen.lease["metadata"].get("annotations") or {}).get(MAINTENANCE)
        return None if said is None or said.strip().lower() == "false" else said

    @property
    def step_within_s(self) -> float:
        """The longest that a step and the wait after it take: at most four requests."""
        return 5 * self._options.renew_every_s + self._options.retry_every_s

    @property
    def problem(self) -> str | None:
        """Why the last step failed; None where it did what it was to do."""
        return self._problem

    def tell(self, reason: str, message: str, timeout_s: float) -> None:
        """Write an event on the Lease, for who looks at the daemon from within the cluster.

        Raises:
            ClusterError: it cannot be written.

        """
        options, seen = self._options, self._seen
        uid = "" if seen is None else str(seen.lease["metadata"].get("uid", ""))
        ref = WorkloadRef(options.namespace, options.name, uid, kind=LEASES.kind)
        instance, version = self.identity, "coordination.k8s.io/v1"
        send_event(self._connection, ref, reason, message, timeout_s, instance, api_version=version)

    def step(self) -> float:
        """Take the Lease if it is free, renew it if it is ours; seconds until the next step.

        A failure is logged and stands in `problem`; what is held runs out unless a later step
        renews it.
        """
        try:
            self._advance()
        except Exception as error:  # noqa: BLE001 - without its thread the lease is never had again
            problem = str(error) if isinstance(error, ClusterError) else repr(error)
            if self._problem is None:
                self._log.warning("lease-step-failed", error=problem, left_s=self.remaining_s())
            self._problem = problem
            return self._options.retry_every_s
        self._problem = None
        return self._options.renew_every_s if self._held else self._options.retry_every_s

    def release(self) -> None:
        """Give it up, so that a standby need not wait. Nothing is written from here on."""
        held, seen = self._held, self._seen
        self._held = None
        if held is None or seen is None or seen.holder != self.identity:
            return
        try:
            self._put(self._body(seen, "", 1, seen.transitions, seen.acquired))
        except ClusterError as error:
            self._log.warning("lease-not-released", error=str(error))
            return
        self._log.info("lease-released")

    def _advance(self) -> None:
        if self._held is None or self._seen is None:
            self._look()
        seen, now = self._seen, self._clock.monotonic()
        try:
            if seen is None:
                # One that was deleted under its holder is still that holder's for its time.
                if now >= self._free_at:
                    self._create(now)
            elif seen.holder == self.identity:
                self._renew(seen, now)
            elif now >= seen.runs_out(self._options.duration_s):
                self._take_over(seen, now)
        except (ConflictError, NotFoundError):
            self._look()
            if seen is None and self._seen is None:
                raise
            if self._seen is not None and self._seen.holder == self.identity:
                # Somebody else touched the object, or an answer of ours was lost.
                self._renew(self._seen, self._clock.monotonic())

    def _look(self) -> None:
        """Read the Lease; one that changed starts its holder's time anew."""
        try:
            lease = self._connection.get(
                self._path, f"read {self._what}", self._options.renew_every_s
            )
        except NotFoundError:
            self._lose("it was deleted")
            if self._seen is not None and self._seen.holder != self.identity:
                self._free_at = self._seen.runs_out(self._options.duration_s)
            self._seen = None
            return
        self._see(lease)
        if self.holder != self.identity:
            self._lose(f"{self.holder or 'nobody'} holds it")

    def _see(self, lease: Object) -> None:
        """Remember the version read; when it was first seen is after the answer came."""
        if self._seen is None or lease["metadata"]["resourceVersion"] != self._seen.version:
            self._seen = _Seen(lease, self._clock.monotonic())

    def _create(self, before: float) -> None:
        body = self._body(None, self.identity, self._options.duration_s, 0, self._now())
        path = LEASES.path(self._options.namespace)
        timeout_s = self._options.renew_every_s
        self._see(self._connection.send("POST", path, f"create {self._what}", timeout_s, body))
        self._hold(before)

    def _renew(self, seen: _Seen, before: float) -> None:
        duration_s = self._options.duration_s
        self._put(self._body(seen, self.identity, duration_s, seen.transitions, seen.acquired))
        self._hold(before)

    def _take_over(self, seen: _Seen, before: float) -> None:
        transitions = seen.transitions + 1
        duration_s = self._options.duration_s
        self._put(self._body(seen, self.identity, duration_s, transitions, self._now()))
        self._hold(before)

    def _put(self, body: Object) -> None:
        timeout_s = self._options.renew_every_s
        self._see(self._connection.send("PUT", self._path, f"write {self._what}", timeout_s, body))

    def _hold(self, before: float) -> None:
        """Ours from `before`, the moment before the request was sent."""
        until = before + self._options.duration_s
        held = self._held
        if held is not None and before < held.until:
            self._held = _Held(held.since, until)
            return
        self._held = _Held(before, until)
        self._log.info("lease-taken", transitions=self._seen.transitions if self._seen else 0)

    def _lose(self, why: str) -> None:
        if self._held is not None:
            self._held = None
            self._log.warning("lease-lost", why=why)

    def _body(
        self,
        seen: _Seen | None,
        holder: str,
        duration_s: int,
        transitions: int,
        acquired: str | None,
    ) -> Object:
        """A Lease that replaces the version `seen`, and no other; None is a new one."""
        metadata: dict[str, Any] = {
            "namespace": self._options.namespace,
            "name": self._options.name,
        }
        if seen is not None:
            metadata = {**seen.lease["metadata"]}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": duration_s,
                "acquireTime": acquired,
                "renewTime": self._now(),
                "leaseTransitions": transitions,
            },
        }

    def _now(self) -> str:
        return microtime(datetime.fromtimestamp(self._clock.now(), UTC))


class LeaseKeeper:
    """Keeps a Lease from a thread of its own: a cycle may last longer than a renewal may wait."""

    def __init__(self, lease: Lease, clock: Clock | None = None) -> None:
        self.lease = lease
        self._clock = clock or SystemClock()
        self._moved = self._clock.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs; without it the lease runs out."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take and keep the lease."""
        self._moved = self._clock.monotonic()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop renewing and release the lease; returns after `timeout_s` at the latest."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def overdue_s(self) -> float:
        """By how much its thread is silent beyond what a step may take; 0 while it moves."""
        silent_s = self._clock.monotonic() - self._moved
        return max(0.0, silent_s - 2 * self.lease.step_within_s)

    def _run(self) -> None:
        wait_s = self.lease.step()
        while not self._stopping.wait(wait_s):
            self._moved = self._clock.monotonic()
            wait_s = self.lease.step()
        self.lease.release()
