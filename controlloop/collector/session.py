"""An HTTP session whose answers come whole, in time, or not at all."""

from __future__ import annotations

import io
import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, cast

import requests
import urllib3
from requests.auth import AuthBase

from controlloop.clock import Clock, Deadline
from controlloop.collector.series import MetricsUnavailableError
from controlloop.errors import DeadlineError, MetricsError

PIECE_BYTES: Final = 1 << 16
LONGEST_MESSAGE: Final = 300
MOST_SKEW_S: Final = 30.0
"""By how much its clock and ours may differ: what is old by the one is fresh by the other."""

# Every other query of this cycle would get the same answer.
HOPELESS: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class QuerySession(requests.Session):
    """A session for a source of metrics.

    It follows no redirect, so that a credential stays with the address it was given for, and
    takes nothing from the environment. An answer that trickles in is given up at the time-out,
    which the sockets' own time-outs do not promise. One that says it is partial is refused.

    Args:
        auth: adds the credentials to each request; None: there are none.
        clock: measures the time that an answer takes.

    """

    def __init__(self, auth: AuthBase | None, clock: Clock) -> None:
        super().__init__()
        self.trust_env = False
        self.auth = auth
        self._clock = clock

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send one request, read its answer whole and check it.

        Raises:
            MetricsUnavailableError: no answer within the time-out, or one that is the same for
                every query (HTTP 401, 403, 404, 429, 502, 503, 504, or a clock that is off).
            MetricsError: the source refuses this query, or its answer is partial.

        """
        deadline = Deadline(self._clock, kwargs["timeout"])
        response = super().send(request, **(kwargs | {"stream": True, "allow_redirects": False}))
        body = _read(response, deadline)
        # What was read piece by piece is given back to be read again, as from the wire.
        response.raw = io.BytesIO(body)
        _check(response.status_code, body)
        _check_clock(response.headers.get("Date", ""), self._clock.now())
        return response


def _read(response: requests.Response, deadline: Deadline) -> bytes:
    raw = cast("urllib3.HTTPResponse", response.raw)
    pieces: list[bytes] = []
    try:
        while piece := raw.read1(PIECE_BYTES, decode_content=True):
            pieces.append(piece)
            deadline.timeout_s(0.0, "reading the answer")
    except DeadlineError:
        raise MetricsUnavailableError("the answer did not end within its time-out") from None
    except urllib3.exceptions.HTTPError as error:
        raise MetricsUnavailableError(f"the answer broke off: {error}") from error
    finally:
        # Puts the connection back where the answer was read to its end, else closes it.
        response.close()
    return b"".join(pieces)


def _check(status: int, body: bytes) -> None:
    if status != HTTPStatus.OK:
        kind = MetricsUnavailableError if status in HOPELESS else MetricsError
        raise kind(f"it refused: HTTP {status}: {_words(body)}")
    # Answers are large and warnings are rare: only a mention of them is worth parsing twice.
    if b'"warnings"' in body:
        warnings = _object(body).get("warnings")
        if warnings:
            raise MetricsError(f"the answer is partial: {_short('; '.join(map(str, warnings)))}")


def _check_clock(date: str, now: float) -> None:
    try:
        skew_s = parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return
    if abs(skew_s) > MOST_SKEW_S:
        raise MetricsUnavailableError(
            f"its clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours: "
            "how old a sample is cannot be told"
        )


def _words(body: bytes) -> str:
    said = _object(body).get("error")
    return _short(str(said) if said else body.decode("utf-8", errors="replace").strip())


def _short(text: str) -> str:
    return text[:LONGEST_MESSAGE] or "no reason given"


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
