"""Label selectors as queries have them: made from an object's, and applied to labels. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from controlloop.errors import InvalidObjectError

_TERM: Final = re.compile(
    r"\s*(?:(?P<key>[^\s!=,()]+)\s*(?:(?P<equals>!=|==?)\s*(?P<value>[^\s,()]*)"
    r"|\s(?P<within>in|notin)\s*\((?P<values>[^()]*)\))?|!\s*(?P<absent>[^\s!=,()]+))\s*(?:,|$)"
)


def selector_text(selector: Mapping[str, Any]) -> str:
    """A selector, as in the spec of a Deployment, in the form of a query."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, values = each["key"], ",".join(each.get("values") or ())
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[each["operator"]]
        )
    return ",".join(terms)


def selects(text: str, labels: Mapping[str, str]) -> bool:
    """Whether a query selects an object with these labels; "" selects every one.

    Raises:
        InvalidObjectError: the query is none.

    """
    at = 0
    chosen = True
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise InvalidObjectError(f"is no label selector: {text!r}")
        chosen &= _holds(found, labels)
        at = found.end()
    return chosen


def _holds(term: re.Match[str], labels: Mapping[str, str]) -> bool:
    if term["absent"]:
        return term["absent"] not in labels
    key = term["key"]
    if term["equals"]:
        return (labels.get(key) == term["value"]) != (term["equals"] == "!=")
    if term["within"]:
        values = [each.strip() for each in term["values"].split(",")]
        return (labels.get(key) in values) == (term["within"] == "in")
    return key in labels
