"""One reconciliation: read the objects of a namespace, optimize, write what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from controlloop.api.solution import Solution
from controlloop.api.system import System
from controlloop.clock import Clock, timestamp
from controlloop.errors import ClusterError, ConflictError, ControlLoopError, NotFoundError
from controlloop.runtime_controller.assembly import (
    OPTIMIZER,
    SERVER,
    Object,
    assemble_objects,
    belongs,
    key_of,
)
from controlloop.runtime_controller.statuses import (
    StatusChange,
    orphan_change,
    status_changes,
)

Optimize = Callable[[System], Solution]


class Store(Protocol):
    """Where the objects are; `kube.custom.CustomResources` is one."""

    def all(self, timeout_s: float) -> Sequence[Object]:
        """Every object, with its kind."""
        ...

    def write_status(self, each: Object, status: Mapping[str, Any], timeout_s: float) -> Object:
        """Replace the status of an object at the version that was read."""
        ...

    def record(self, each: Object, reason: str, message: str, timeout_s: float) -> None:
        """Write an event on an object."""
        ...


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one reconciliation did: Optimizers seen, statuses written, and what failed."""

    optimizers: int
    written: int
    failures: tuple[str, ...] = ()


class Reconciler:
    """Brings the statuses of all objects in line with their specs. Specs are never written.

    Args:
        store: where the objects are.
        optimize: the optimizer.
        clock: stamps conditions.
        may_write: asked before each write; False ends the reconciliation there.
        timeout_s: of the lists together, and of each write.

    """

    def __init__(
        self,
        store: Store,
        optimize: Optimize,
        clock: Clock,
        may_write: Callable[[], bool] = lambda: True,
        timeout_s: float = 10.0,
    ) -> None:
        self._store = store
        self._optimize = optimize
        self._clock = clock
        self._may_write = may_write
        self._timeout_s = timeout_s
        self._log = structlog.get_logger("controlloop")

    def reconcile(self) -> Reconciled:
        """Read everything once and write what differs.

        Raises:
            ClusterError: the objects cannot be read; nothing was written.

        """
        by_namespace: dict[str, list[Object]] = defaultdict(list)
        for each in self._store.all(self._timeout_s):
            by_namespace[each["metadata"]["namespace"]].append(each)
        optimizers = sum(each["kind"] == OPTIMIZER for own in by_namespace.values() for each in own)
        failures: list[str] = []
        written = 0
        for objects in by_namespace.values():
            for change in self._namespace(objects):
                if not self._may_write():
                    failures.append("another process became the writer; nothing more is written")
                    return Reconciled(optimizers, written, tuple(failures))
                written += self._write(change, failures)
        return Reconciled(optimizers, written, tuple(failures))

    def _namespace(self, objects: Sequence[Object]) -> Iterator[StatusChange]:
        """What is to be written in one namespace."""
        optimizers = [each for each in objects if each["kind"] == OPTIMIZER]
        orphans = {key_of(each): each for each in objects if each["kind"] == SERVER}
        now = timestamp(self._clock.now())
        for optimizer in sorted(optimizers, key=lambda one: str(one["metadata"]["name"])):
            # A server belongs to the first Optimizer that selects it; what it runs on is shared.
            own = [
                each
                for each in objects
                if belongs(each, optimizer)
                and (
                    key_of(each) in orphans if each["kind"] == SERVER else each["kind"] != OPTIMIZER
                )
            ]
            yield from self._changes(optimizer, own, now)
            for each in own:
                orphans.pop(key_of(each), None)
        for each in orphans.values():
            yield from orphan_change(each, now)

    def _changes(
        self, optimizer: Object, objects: Sequence[Object], now: str
    ) -> Iterator[StatusChange]:
        assembled = assemble_objects(optimizer, objects)
        solution, failure = None, ""
        if assembled.system is not None:
            try:
                solution = self._optimize(assembled.system)
            except ControlLoopError as error:
                failure = str(error)
        return status_changes(optimizer, objects, assembled, solution, failure, now)

    def _write(self, change: StatusChange, failures: list[str]) -> int:
        """1 if it was written; whatever it meets harms no other object."""
        kind, name = key_of(change.object)
        try:
            self._store.write_status(change.object, change.status, self._timeout_s)
        except (ConflictError, NotFoundError):
            # It changed or went: that is an event of its own, and reconciled then.
            return 0
        except ClusterError as error:
            failures.append(str(error))
            return 0
        facts = {"kind": kind, "name": name, "reason": change.reason, "message": change.message}
        self._log.info("status-written", **facts)
        if change.news:
            self._tell(change)
        return 1

    def _tell(self, change: StatusChange) -> None:
        try:
            message = change.message or change.reason
            self._store.record(change.object, change.reason, message, self._timeout_s)
        except ClusterError as error:
            self._log.warning("event-not-written", error=str(error))
