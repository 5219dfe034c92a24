from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from controlloop.api.schema import json_schema
from controlloop.optimizer import optimize
from controlloop.rest.building import build_app
from controlloop.rest.commands import COMMANDS
from controlloop.rest.options import RestOptions

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
APPS = {full: build_app(optimize, RestOptions(full=full)) for full in (True, False)}


@pytest.fixture(scope="module")
def document() -> Any:
    with TestClient(APPS[True]) as client:
        return client.get("/openapi.json").json()


def test_every_command_is_described_with_its_forms(document: Any) -> None:
    for command in COMMANDS:
        operation = document["paths"][command.path][command.verb.lower()]
        assert operation["operationId"] == command.name
        assert operation["description"]
        assert ("requestBody" in operation) == (command.verb == "POST")
        names = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert names == re.findall(r"{(\w+)}", command.path)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        if command.answer is not None:
            assert schema == {"$ref": f"#/components/schemas/{command.answer.__name__}"}


def test_the_forms_are_those_of_the_api_in_their_documented_spelling(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name in ("ServerSpec", "ModelAcceleratorPerfData", "OptimizerSpec", "SystemData"):
        assert schemas[name]["properties"].keys() == json_schema(name)["properties"].keys()
    targets = schemas["ModelTarget"]["properties"]
    assert targets.keys() == json_schema("ModelTarget")["properties"].keys()
    assert {"model", "slo-itl", "slo-ttft", "slo-tps"} <= targets.keys()
    text = str(document)
    refs = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert refs <= schemas.keys()
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_page_shows_every_command_and_form_and_loads_nothing(document: Any) -> None:
    with TestClient(APPS[True]) as client:
        answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"src=|https?://|@import|<script", answer.text)
    for command in COMMANDS:
        assert f"<code>{command.path}</code>" in answer.text
    for name in document["components"]["schemas"]:
        assert f'<h3 id="{name}">' in answer.text
    assert (
        set(re.findall(r'href="#(\w+)"', answer.text)) <= document["components"]["schemas"].keys()
    )


def described(full: bool) -> BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", APPS[full])


SLOWLY = settings(
    max_examples=25,
    suppress_health_check=list(HealthCheck),
)
STATEFUL, STATELESS = described(full=True), described(full=False)


@pytest.mark.slow
@STATEFUL.parametrize()
@SLOWLY
def test_a_stateful_server_answers_whatever_fits_its_description(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)


@pytest.mark.slow
@STATELESS.parametrize()
@SLOWLY
def test_a_stateless_server_answers_whatever_fits_its_description(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
