"""Programs that a test starts, stalls and kills, and that never outlive it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.waiting import until

# Below the range from which Linux takes ports for outgoing connections, so that no client
# can take a port between the moment it is chosen and the moment the program listens.
PORTS = range(20000, 32000)

# Linux kills a program when the thread that started it ends: without this, a test run that
# is killed would leave a control plane behind.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the starter is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
LOG_LINES_SHOWN = 30


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nothing listens, all different."""
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


class Program:
    """One program with fixed arguments; it can be started again after it was killed."""

    def __init__(
        self,
        command: Iterable[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        # The thread that starts the program must live as long as the program may.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.name)

    @property
    def pid(self) -> int:
        """Process id; raises RuntimeError when the program was never started."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._started().poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; the log grows at its end."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        command = self.command
        if sys.platform == "linux":
            prelude = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid())]
            command = [*prelude, *command]
        with self.log.open("ab") as log:
            self._process = self._starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            ).result()

    def await_ready(self, ready: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Return as soon as `ready` holds.

        Raises:
            RuntimeError: the program ended first; shows the end of its log.
            TimeoutError: it is still not ready.

        """

        def ready_or_ended() -> bool:
            if not self.running:
                raise RuntimeError(
                    f"{self.name} ended with {self.returncode} before it was ready:\n{self.tail()}"
                )
            return ready()

        until(ready_or_ended, f"{self.name} ready (log {self.log})", timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stall(self) -> None:
        """SIGSTOP: it keeps its ports and connections and answers nothing."""
        self._started().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on where it was stalled."""
        self._started().send_signal(signal.SIGCONT)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and wait for the exit code."""
        process = self._started()
        process.terminate()
        return process.wait(timeout_s)

    def close(self) -> None:
        """Kill it for good."""
        self.kill()
        self._starter.shutdown()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process
