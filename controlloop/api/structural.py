"""JSON Schema of our forms as Kubernetes wants it: structural, without references, with rules.

Kubernetes keeps every key that is not in the schema out of the object, knows no `$ref` and no
null beside another type, and checks what a schema cannot say by rules in CEL.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from controlloop.api.spec_types import Form
from controlloop.api.spelling import fields_of

Schema = dict[str, Any]

# The API server refuses rules whose cost it cannot bound.
MOST_ITEMS: Final = 1000
MOST_PROPERTIES: Final = 32
LONGEST_TEXT: Final = 256
# Kubernetes says of a bound whether it is exclusive; newer JSON Schema has bounds that are.
_EXCLUSIVE: Final = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
_DROPPED: Final = frozenset({"title", "default", "$defs"})

RULES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "DecodeParms": (("self.alpha + self.beta > 0.0", "alpha + beta must be > 0"),),
        "ModelAcceleratorPerfData": (
            (
                (
                    "has(self.parameters) ? !has(self.decodeParms) && !has(self.prefillParms)"
                    " : has(self.decodeParms) && has(self.prefillParms)"
                ),
                "give both decodeParms and prefillParms, or parameters and none of them",
            ),
            (
                (
                    "!has(self.parameters) || !has(self.queueModel)"
                    " || self.queueModel != 'state-dependent'"
                ),
                "parameters are for other queue models, not for state-dependent",
            ),
        ),
        "OptimizerSpec": (
            (
                "!has(self.objective) || self.objective != 'weighted' || has(self.energyPrice)",
                "energyPrice is required where objective is weighted",
            ),
        ),
    }
)
"""What the forms' own validators check beyond their fields, once more in CEL, by form."""


def structural_schema(form: type[Form], *, without: str = "") -> Schema:
    """The structural schema of `form`.

    Args:
        form: a form of the documented JSON.
        without: a field that is not part of it here.

    """
    raw = form.model_json_schema(by_alias=True)
    return _Inliner(raw.get("$defs", {}), _unique_lists()).schema(raw, without)


class _Inliner:
    """Puts what a schema refers to where it refers to it."""

    def __init__(self, defs: Mapping[str, Schema], unique: Mapping[str, Mapping[str, Any]]) -> None:
        self._defs = defs
        self._unique = unique

    def schema(self, raw: Mapping[str, Any], without: str = "") -> Schema:
        """`raw` inlined, with bounds and the rules of the form that it is titled by."""
        if "$ref" in raw:
            beside = {key: each for key, each in raw.items() if key != "$ref"}
            return self.schema({**self._defs[raw["$ref"].rsplit("/", 1)[-1]], **beside})
        if "anyOf" in raw:
            # Of unions there is only `X | None`, and a null value is as good as none.
            kind = next(each for each in raw["anyOf"] if each.get("type") != "null")
            beside = {key: each for key, each in raw.items() if key != "anyOf"}
            return self.schema({**kind, **beside})
        found = {key: each for key, each in raw.items() if key not in _DROPPED}
        if "properties" in raw:
            return self._object(str(raw.get("title", "")), raw, found, without)
        return self._value(found)

    def _object(self, form: str, raw: Mapping[str, Any], found: Schema, without: str) -> Schema:
        unique = self._unique.get(form, {})
        properties = {}
        for key, each in raw["properties"].items():
            if key == without:
                continue
            properties[key] = self.schema(each)
            if key in unique:
                properties[key] |= {
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": list(unique[key]),
                }
        found["properties"] = properties
        required = [key for key in raw.get("required", ()) if key != without]
        if required:
            found["required"] = required
        else:
            found.pop("required", None)
        if form in RULES:
            found["x-kubernetes-validations"] = [
                {"rule": rule, "message": message} for rule, message in RULES[form]
            ]
        return found

    def _value(self, found: Schema) -> Schema:
        kind = found.get("type")
        for bound, exclusive in _EXCLUSIVE:
            if exclusive in found:
                found |= {bound: found[exclusive], exclusive: True}
        if kind == "array":
            found["items"] = self.schema(found["items"])
            found.setdefault("maxItems", MOST_ITEMS)
        elif kind == "object":
            values = found.get("additionalProperties")
            if isinstance(values, dict):
                found["additionalProperties"] = self.schema(values)
                found.setdefault("maxProperties", MOST_PROPERTIES)
        elif kind == "string" and "enum" not in found:
            found.setdefault("maxLength", LONGEST_TEXT)
        elif kind == "integer":
            found["format"] = "int64"
        return found


def _unique_lists() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """By form, the lists whose entries must differ, and in which keys."""
    # Here, not above: the table of forms imports what every form is made of.
    from controlloop.api import specs

    forms = [getattr(specs, name) for name in specs.__all__]
    return {
        form.__name__: {
            field.key: field.unique for field in fields_of(form).values() if field.unique
        }
        for form in forms
        if isinstance(form, type) and issubclass(form, Form)
    }
