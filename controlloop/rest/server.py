"""uvicorn in a thread of its own, with a start that is known and an end that is clean."""

from __future__ import annotations

import socket
import threading
from typing import Any, Final

import uvicorn

from controlloop.errors import ControlLoopError

START_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 5


class HttpServer:
    """Serves an ASGI application.

    Args:
        app: the application.
        host: address to listen on.
        port: port to listen on; 0 takes a free one, which `port` then tells.
        stop_within_s: how long requests under way may take to end at a stop.

    """

    def __init__(
        self, app: Any, host: str, port: int, *, stop_within_s: int = STOP_WITHIN_S
    ) -> None:
        self._app = app
        self._stop_within_s = stop_within_s
        self._address = (host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._address[1] if self._socket is None else int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen, then answer from a thread.

        Raises:
            ControlLoopError: the address cannot be listened on.

        """
        host, port = self._address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, reuse_port=False)
        except OSError as error:
            raise ControlLoopError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=self._stop_within_s,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, then end."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(self._stop_within_s + START_WITHIN_S)

    def _serve(self) -> None:
        if self._server is not None and self._socket is not None:
            self._server.run(sockets=[self._socket])
