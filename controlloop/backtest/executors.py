"""Where jobs run: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

from controlloop.backtest.errors import BacktestError
from controlloop.backtest.jobs import Job, Row

Work = Callable[[Job], Row]


class Executor(Protocol):
    """Runs jobs, each by itself; they share nothing."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, Row]]:
        """Every job with its row, in the order in which they end.

        Closing the iterator stops what has not begun. An error of a job is raised here.
        """
        ...


class Here:
    """In this process, one after the other."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, Row]]:
        """In the order given."""
        for job in jobs:
            yield job, work(job)


@dataclass(frozen=True, slots=True)
class Processes:
    """In `count` processes of this machine."""

    count: int

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, Row]]:
        """As they end. Ctrl-C is this process's to handle, not that of its workers."""
        pool = ProcessPoolExecutor(max_workers=self.count, mp_context=get_context("spawn"))
        try:
            with _no_interrupts():
                futures = {pool.submit(work, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Dask:
    """On the Dask cluster whose scheduler is at `address`, such as tcp://scheduler:8786.

    Its workers must have this package installed.
    """

    address: str
    timeout_s: float = 30.0

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[tuple[Job, Row]]:
        """As they end.

        Raises:
            BacktestError: the extra `dask` is not installed, or the scheduler does not answer.

        """
        client = self._connect()
        try:
            # The library's own types are partial.
            as_done: Any = importlib.import_module("distributed").as_completed

            futures = client.map(work, jobs, pure=False)
            of_key = {future.key: job for future, job in zip(futures, jobs, strict=True)}
            try:
                for future in as_done(futures):
                    yield of_key[future.key], future.result()
            finally:
                client.cancel(futures)
        finally:
            client.close()

    def _connect(self) -> Any:
        try:
            client: Any = importlib.import_module("distributed").Client
        except ImportError as error:
            raise BacktestError(
                "--dask needs the extra `dask`: pip install 'controlloop[dask]'"
            ) from error
        try:
            return client(self.address, timeout=self.timeout_s)
        except (OSError, TimeoutError, ValueError) as error:
            raise BacktestError(
                f"no Dask scheduler answers at {self.address}: {error}; nothing was run"
            ) from error


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the end; processes begun within never hear of it, from their start on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
