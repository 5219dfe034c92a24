"""How the optimizer's REST server runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from controlloop.api.system import DEFAULT_QUEUE_MODEL, System

DEFAULT_HOST: Final = "localhost"
DEFAULT_PORT: Final = 8080
DEFAULT_MAX_BODY_MB: Final = 16.0


@dataclass(frozen=True, slots=True)
class RestOptions:
    """How the server runs.

    `full` is stateful. `state_file` keeps the state over a restart, `token_file` holds the
    bearer token that every request must carry; None is without. `plugins` are the solvers and
    queue models of third parties ("module:Factory") that requests may name. `queue_model` is
    that of performance data that names none; `time_limit_s` and `gap` bound exact solvers where
    a request does not, None leaves them to the solver.
    """

    full: bool = False
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    state_file: Path | None = None
    token_file: Path | None = None
    max_body_mb: float = DEFAULT_MAX_BODY_MB
    plugins: frozenset[str] = frozenset()
    queue_model: str = DEFAULT_QUEUE_MODEL
    time_limit_s: float | None = None
    gap: float | None = None

    def complete(self, system: System) -> System:
        """`system` with what requests leave to the server."""
        options = system.options.limited_by(self.time_limit_s, self.gap)
        return replace(system.with_queue_model(self.queue_model), options=options)
