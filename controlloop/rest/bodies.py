"""What comes in and goes out over HTTP: bounded bodies, answers, errors in one form."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Final

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from controlloop.api.specs import Form
from controlloop.errors import ControlLoopError, InputError, Problem, UnknownPluginError
from controlloop.rest.state_file import StateFileError
from controlloop.rest.tables import AmbiguousNameError, UnknownNameError

BODY_WITHIN_S: Final = 60.0
MOST_ERRORS: Final = 1000
# So much of a body that is too large is read and dropped, so that the client hears why.
DRAINED_TIMES: Final = 4


class ErrorSpec(Form):
    """One bad value."""

    path: str = Field(description="Where it stands; empty is the whole body.")
    rule: str = Field(description="The rule that it breaks, in words.")
    value: str | None = Field(None, description="What it is, as JSON text; null where nothing is.")


class Refusal(Form):
    """The answer to what was not done."""

    message: str = Field(description="What was wrong, in words.")
    errors: tuple[ErrorSpec, ...] | None = Field(
        None, description=f"Every bad value of a body, {MOST_ERRORS} at most."
    )


class RefusedError(ControlLoopError):
    """A request that is refused for what it is, not for what it says."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The body of `request`.

    Raises:
        RefusedError: it is larger than `most_bytes`, or does not come to its end in time.

    """
    text = bytearray()
    size = 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > DRAINED_TIMES * most_bytes:
        raise _too_large(most_bytes)
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for piece in request.stream():
                size += len(piece)
                if size > DRAINED_TIMES * most_bytes:
                    break
                if size <= most_bytes:
                    text += piece
    except TimeoutError:
        message = f"the body did not come whole within {BODY_WITHIN_S:g} s"
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, message) from None
    if size > most_bytes:
        raise _too_large(most_bytes)
    return bytes(text)


def answer(result: Form | tuple[str, ...]) -> Response:
    """The answer that carries `result`: a form, or a list of names."""
    if isinstance(result, Form):
        return _json(result.model_dump_json(by_alias=True, exclude_none=True))
    return _json(json.dumps(result, ensure_ascii=False))


def refusal(error: Exception) -> Response:
    """The answer that says why something was not done."""
    headers = None
    problems: tuple[Problem, ...] = ()
    message = str(error)
    match error:
        case InputError():
            status, problems = HTTPStatus.BAD_REQUEST, error.problems
            message = _summary(problems)
        case UnknownPluginError() | AmbiguousNameError():
            status = HTTPStatus.BAD_REQUEST
        case UnknownNameError():
            status = HTTPStatus.NOT_FOUND
        case RefusedError():
            status = error.status
        case StateFileError():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        case HTTPException():
            status, message, headers = HTTPStatus(error.status_code), error.detail, error.headers
        case _:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            message = "the server failed; its log says why"
    document: dict[str, object] = {"message": message}
    if problems:
        document["errors"] = [
            {"path": each.path, "rule": each.rule, "value": each.value}
            for each in problems[:MOST_ERRORS]
        ]
    response = _json(json.dumps(document, ensure_ascii=False))
    response.status_code = int(status)
    response.headers.update(headers or {})
    return response


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _too_large(most_bytes: int) -> RefusedError:
    message = f"the body is larger than {most_bytes} bytes, which are allowed"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _summary(problems: tuple[Problem, ...]) -> str:
    more = len(problems) - 1
    rest = f" (and {more} more)" if more else ""
    return f"{problems[0]}{rest}; nothing was changed"
