"""Builds the runtime controller: custom resources in, statuses out."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from controlloop.clock import Clock, SystemClock
from controlloop.errors import NotFoundError, NotLeaderError
from controlloop.kube.connection import ConnectionOptions, connect, credentials
from controlloop.kube.custom import CustomResources
from controlloop.kube.lease import Lease, LeaseKeeper, LeaseOptions
from controlloop.optimizer import optimize
from controlloop.runtime_controller.operator import Operator, OperatorOptions
from controlloop.runtime_controller.reconciler import Reconciled, Reconciler

RELEASE_WITHIN_S = 10.0
WRITE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """Which cluster, which namespaces, and how the one writer is found.

    `lease` None takes none: somebody else sees to it that there is one process only.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    lease: LeaseOptions | None = None
    operator: OperatorOptions = field(default_factory=OperatorOptions)


class Controller:
    """The runtime controller: `run` until it is told to stop, or one `run_once`."""

    def __init__(self, options: ControllerOptions, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._where = ConnectionOptions(
            kubeconfig=str(options.kubeconfig or ""), context=options.context or ""
        )
        connection = connect(self._where)
        self._lease = (
            None if options.lease is None else Lease(connection, options.lease, self._clock)
        )
        self._store = CustomResources(connection, options.operator.namespaces, socket.gethostname())
        self._reconciler = Reconciler(
            self._store, optimize, self._clock, self._may_write, timeout_s=WRITE_WITHIN_S
        )

    def run(self) -> None:
        """Watch and reconcile until SIGTERM or SIGINT.

        Raises:
            ClusterError: the objects cannot be read, or their kinds are not installed.

        """
        try:
            self._store.all(WRITE_WITHIN_S)
        except NotFoundError as error:
            advice = "install the kinds first: controlloop crds | kubectl apply -f -"
            raise NotFoundError(f"{error}; {advice}") from error
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        operator = Operator(
            self._reconciler.reconcile,
            self._may_write,
            partial(credentials, self._where),
            self._options.operator,
        )
        with self._keeping():
            operator.run(stop)

    def run_once(self) -> Reconciled:
        """One reconciliation of everything.

        Raises:
            NotLeaderError: another process holds the lease.
            ClusterError: the objects cannot be read.

        """
        with self._keeping():
            if self._lease is not None:
                self._await_lease(self._lease)
            return self._reconciler.reconcile()

    def _may_write(self) -> bool:
        return self._lease is None or self._lease.remaining_s() > WRITE_WITHIN_S

    def _await_lease(self, lease: Lease) -> None:
        options = self._options.lease or LeaseOptions()
        give_up = self._clock.monotonic() + options.duration_s + 2 * options.renew_every_s
        waiting = threading.Event()
        while not self._may_write():
            if self._clock.monotonic() >= give_up:
                raise NotLeaderError(f"{lease.holder or 'nobody known'} holds the lease")
            waiting.wait(0.05)

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        if self._lease is None:
            yield
            return
        keeper = LeaseKeeper(self._lease, self._clock)
        keeper.start()
        try:
            yield
        finally:
            keeper.stop(RELEASE_WITHIN_S)
