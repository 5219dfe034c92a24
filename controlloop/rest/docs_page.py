"""The OpenAPI document as one page of plain HTML, which loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from typing import Any, Final

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem }
th, td { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left;
         vertical-align: top }
code { font: 13px ui-monospace, monospace }
h3 { margin: 1.5rem 0 0 }
"""


def docs_page(openapi: dict[str, Any]) -> str:
    """The page that shows the commands and the forms of `openapi`."""
    info = openapi["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    commands = "".join(
        _command_row(verb, path, operation)
        for path, operations in openapi["paths"].items()
        for verb, operation in operations.items()
    )
    forms = "".join(
        _form(name, schema) for name, schema in sorted(openapi["components"]["schemas"].items())
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>
<body><h1>{title}</h1><p>{escape(info.get("description", ""))}</p>
<p>For programs: <a href="openapi.json">openapi.json</a>.</p>
<h2>Commands</h2>
<table><tr><th>verb<th>path<th>what it does<th>body<th>answer<th>mode</tr>{commands}</table>
<h2>Forms</h2>{forms}</body></html>
"""


def _command_row(verb: str, path: str, operation: dict[str, Any]) -> str:
    body = _content(operation.get("requestBody", {}))
    answer = _content(operation["responses"].get("200", {}))
    cells = (
        escape(verb.upper()),
        f"<code>{escape(path)}</code>",
        escape(operation.get("description", operation.get("summary", ""))),
        body,
        answer,
        escape(", ".join(operation.get("tags", ()))),
    )
    return f"<tr>{''.join(f'<td>{cell}' for cell in cells)}</tr>"


def _content(part: dict[str, Any]) -> str:
    return " or ".join(
        f"{_type(content.get('schema', {}))}" if kind == "application/json" else escape(kind)
        for kind, content in part.get("content", {}).items()
    )


def _form(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(key)}</code><td>{_type(field)}"
        f"<td>{'required' if key in required else ''}"
        f"<td>{escape(field.get('description', ''))}</tr>"
        for key, field in schema.get("properties", {}).items()
    )
    said = escape(schema.get("description", ""))
    table = f"<table><tr><th>key<th>type<th><th>meaning</tr>{rows}</table>" if rows else ""
    values = ", ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", ()))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{said} {values}</p>{table}'


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties", {})
        return f"object of {_type(inner)}" if isinstance(inner, dict) else "object"
    return escape(schema.get("type", ""))
