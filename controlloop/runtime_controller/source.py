"""The static data of the daemon from custom resources instead of files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import structlog

from controlloop.api.specs_template import TemplateSpec
from controlloop.api.system import System
from controlloop.errors import ClusterError, InputError, Problem
from controlloop.runtime_controller.assembly import OPTIMIZER, SERVER, assemble_objects, belongs
from controlloop.runtime_controller.reconciler import Store

SOURCE: Final = "custom resources"


class CustomResourceSource:
    """Implements `protocols.Source`: accelerators, capacity, models, classes and options.

    Servers are what the collector sees; Server objects are not part of it. Where the objects are
    bad or cannot be read, the last good data stays in force.

    Args:
        store: where the objects are, of one namespace.
        optimizer: name of the Optimizer; "" is the only one there is.
        queue_model: for performance data that names none.
        timeout_s: of the lists together.

    """

    def __init__(self, store: Store, optimizer: str, queue_model: str, timeout_s: float) -> None:
        self._store = store
        self._optimizer = optimizer
        self._queue_model = queue_model
        self._timeout_s = timeout_s
        self._good: System | None = None
        self._templates: Mapping[str, TemplateSpec] = {}
        self._problem: str | None = None
        self._lock = threading.Lock()
        self._log = structlog.get_logger("controlloop")

    @property
    def problem(self) -> str | None:
        """Why what is in force is not what the objects say; None when it is."""
        return self._problem

    @property
    def templates(self) -> Mapping[str, TemplateSpec]:
        """What runs a server on an accelerator, by its name, of the data in force."""
        return self._templates

    def load(self) -> System:
        """The data in force: what the objects say if it is good, else the last that was.

        Raises:
            InputError: it is bad, and nothing good came before it.

        """
        with self._lock:
            try:
                system, self._templates = self._read()
                self._good = system.with_queue_model(self._queue_model)
            except InputError as error:
                return self._last_good(error)
            except ClusterError as error:
                return self._last_good(InputError([Problem("", str(error))], SOURCE))
            if self._problem is not None:
                self._log.info("data-good-again", source=SOURCE)
            self._problem = None
            return self._good

    def _read(self) -> tuple[System, Mapping[str, TemplateSpec]]:
        objects = self._store.all(self._timeout_s)
        optimizers = [each for each in objects if each["kind"] == OPTIMIZER]
        named = [each for each in optimizers if self._optimizer in ("", each["metadata"]["name"])]
        if len(named) != 1:
            there = ", ".join(sorted(each["metadata"]["name"] for each in optimizers)) or "none"
            wanted = f'one named "{self._optimizer}"' if self._optimizer else "exactly one"
            raise InputError([Problem("Optimizer", f"there must be {wanted}", there)], SOURCE)
        own = [
            each
            for each in objects
            if each["kind"] not in (OPTIMIZER, SERVER) and belongs(each, named[0])
        ]
        assembled = assemble_objects(named[0], own)
        if assembled.system is None:
            raise InputError(
                [
                    Problem(f"{kind} {name}", problem)
                    for (kind, name), problems in assembled.problems.items()
                    for problem in problems
                ],
                SOURCE,
            )
        return replace(assembled.system, servers=()), assembled.templates

    def _last_good(self, error: InputError) -> System:
        if self._problem != str(error):
            then = "the last good data stays in force" if self._good else "no cycle can run"
            for problem in error.problems:
                self._log.error("data-bad", source=SOURCE, problem=str(problem), then=then)
        self._problem = str(error)
        if self._good is None:
            raise error
        return self._good
