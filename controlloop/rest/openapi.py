"""The OpenAPI document of the commands, generated from their table and the forms."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from controlloop.api.specs import Form
from controlloop.rest.bodies import Refusal
from controlloop.rest.commands import COMMANDS, Command, Kind
from controlloop.rest.explaining import PARAMETERS

_REFS: Final = "#/components/schemas/"
_WORDS: Final = {
    HTTPStatus.BAD_REQUEST: "The body or the path is bad; nothing was changed.",
    HTTPStatus.UNAUTHORIZED: "A bearer token is needed.",
    HTTPStatus.NOT_FOUND: "There is nothing of that name.",
    HTTPStatus.CONFLICT: "The server is stateless and has no such command; -F makes it stateful.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not come whole in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The state file cannot be written; nothing was changed.",
}


def operation(command: Command) -> dict[str, Any]:
    """The OpenAPI operation of one command."""
    done = {"description": "Done.", "content": _json(_answer_schema(command))}
    refused = {"content": _json(_ref(Refusal))}
    answers: dict[str, Any] = {"200": done}
    for status in _refusals(command):
        answers[str(int(status))] = {"description": _WORDS[status], **refused}
    described: dict[str, Any] = {
        "tags": ["stateful" if command.needs_full else "stateless and stateful"],
        "parameters": [
            *(_parameter(name) for name in command.parameters),
            *(PARAMETERS if command.optimizes else ()),
        ],
        "responses": answers,
    }
    if command.body is not None:
        forms = [_ref(form) for form in command.body.forms]
        schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
        described["requestBody"] = {"required": True, "content": _json(schema)}
    return described


def document(app: FastAPI, *, with_token: bool) -> dict[str, Any]:
    """The OpenAPI document of `app`, whose commands carry their `operation`."""
    whole = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    forms: list[type[Form]] = [Refusal]
    for command in COMMANDS:
        forms += () if command.answer is None else (command.answer,)
        forms += () if command.body is None else command.body.forms
    _, schemas = models_json_schema(
        [(form, "validation") for form in dict.fromkeys(forms)],
        by_alias=True,
        ref_template=_REFS + "{model}",
    )
    components = whole.setdefault("components", {})
    components["schemas"] = schemas["$defs"]
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return whole


def _refusals(command: Command) -> tuple[HTTPStatus, ...]:
    found = [HTTPStatus.UNAUTHORIZED]
    if command.body is not None or command.parameters:
        found += [HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND]
    if command.body is not None:
        found += [HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE]
    if command.needs_full:
        found += [HTTPStatus.CONFLICT]
    if command.kind is not Kind.READ:
        found += [HTTPStatus.SERVICE_UNAVAILABLE]
    return tuple(sorted(found))


def _parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    said = "Name; a / in it may be written %2F."
    if name == "priority":
        schema = {"type": "integer"}
        said = "1 is the highest, 100 the lowest; outside 1..100 is 100."
    return {"name": name, "in": "path", "required": True, "description": said, "schema": schema}


def _answer_schema(command: Command) -> dict[str, Any]:
    if command.answer is None:
        return {"type": "array", "items": {"type": "string"}, "description": "Names."}
    return _ref(command.answer)


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(form: type[Form]) -> dict[str, Any]:
    return {"$ref": f"{_REFS}{form.__name__}"}
