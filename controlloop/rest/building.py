"""The optimizer's REST server from plain arguments."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

import structlog
from fastapi import FastAPI

from controlloop.api.verdict import Verdict
from controlloop.clock import SystemClock
from controlloop.errors import InputError, Problem
from controlloop.optimizer.explain import explain_solution
from controlloop.rest.access import Token
from controlloop.rest.allocations import Optimize
from controlloop.rest.explaining import Explain
from controlloop.rest.optimizer_app import AppParts, optimizer_app
from controlloop.rest.options import RestOptions
from controlloop.rest.server import HttpServer
from controlloop.rest.solving import Runner
from controlloop.rest.state import State, Store
from controlloop.rest.state_file import StateFile

# Less than the 30 s after which Kubernetes kills.
STOP_WITHIN_S: Final = 25


def build_app(
    optimize: Optimize, options: RestOptions, explain: Explain = explain_solution
) -> FastAPI:
    """The application.

    Raises:
        InputError: the state file or the token file is not what it should be.
        StateFileError: the state file belongs to another process.

    """
    if options.state_file is not None and not options.full:
        rule = "keeps the state of a stateful server: give --full too"
        raise InputError([Problem("--state-file", rule)])
    token = None if options.token_file is None else Token(options.token_file)
    file = None if options.state_file is None else StateFile(options.state_file)
    state = State()
    if file is not None:
        file.lock()
        state = file.load()
    store = Store(state, None if file is None else file.save)
    # One after the other, a stateful server keeps the answer to the last question asked.
    at_once = 1 if options.full else os.cpu_count() or 1

    def ready() -> Verdict:
        return Verdict(() if file is None or not file.problem else (file.problem,))

    return optimizer_app(
        AppParts(
            runner=Runner(
                store,
                lambda system: optimize(options.complete(system)),
                lambda system, *asked: explain(options.complete(system), *asked),
                at_once,
                options.plugins,
            ),
            full=options.full,
            max_body_bytes=int(options.max_body_mb * 1e6),
            token=token,
            ready=ready,
            clock=SystemClock(),
        )
    )


def run_server(optimize: Optimize, options: RestOptions) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way.

    Raises:
        InputError: the state file or the token file is not what it should be.
        ControlLoopError: the state file belongs to another process, or the address is taken.

    """
    log = structlog.get_logger("controlloop.rest")
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    app = build_app(optimize, options)
    server = HttpServer(app, options.host, options.port, stop_within_s=STOP_WITHIN_S)
    server.start()
    mode = "stateful" if options.full else "stateless"
    log.info("listening", host=options.host, port=server.port, mode=mode)
    told.wait()
    log.info("stop", reason="asked to; requests under way are finished first")
    server.stop()
    log.info("stopped")
