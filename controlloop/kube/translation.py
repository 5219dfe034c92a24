"""What the API server said, in the project's own errors."""

from __future__ import annotations

import json
from http import HTTPStatus

from controlloop.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)

LONGEST_MESSAGE = 500


class ExpiredError(UnavailableError):
    """A list changed so much while its pages were read that it must be read anew (HTTP 410)."""


_KINDS: dict[int, type[ClusterError]] = {
    HTTPStatus.BAD_REQUEST: InvalidObjectError,
    HTTPStatus.UNAUTHORIZED: ForbiddenError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.REQUEST_TIMEOUT: UnavailableError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: ExpiredError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidObjectError,
    HTTPStatus.TOO_MANY_REQUESTS: UnavailableError,
}


def refusal(what: str, status: int, body: bytes) -> ClusterError:
    """The error for an answer that is not a success.

    Args:
        what: what was asked, of which object ("patch Deployment a/b").
        status: the HTTP status.
        body: the answer; the message of a Kubernetes Status is taken from it where it is one.

    """
    kind = _KINDS.get(status)
    if kind is None:
        kind = UnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ClusterError
    return kind(f"cannot {what}: {_words(body)} (HTTP {_status_words(status)})")


def _status_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _words(body: bytes) -> str:
    text = body.decode("utf-8", errors="replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("message"), str):
        text = answer["message"].strip()
    return text[:LONGEST_MESSAGE] or "the API server gave no reason"
