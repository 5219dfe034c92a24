"""What tells a sibling from a Deployment of a person's, and what a sibling could rest on. Pure.

A sibling is told by three things together: the label, the owner reference to its primary, and our
field manager. Whatever lacks one of them is a Deployment like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from controlloop.api.labels import SIBLING, SIBLING_SOURCE
from controlloop.api.observation import Kinship
from controlloop.kube.authors import is_author
from controlloop.kube.resources import DEPLOYMENTS
from controlloop.kube.selectors import selector_text, selects

Object = Mapping[str, Any]

_OWN: Final = "sibling"
"""What the label would be, where only its presence matters."""


def kinship_of(metadata: Object, manager: str) -> Kinship | None:
    """Whose sibling a Deployment is; None where anything of what makes it one is not there."""
    if SIBLING not in (metadata.get("labels") or {}) or not is_author(metadata, manager):
        return None
    owners = [
        owner
        for owner in metadata.get("ownerReferences") or ()
        if owner.get("kind") == DEPLOYMENTS.kind
    ]
    if len(owners) != 1:
        return None
    source = (metadata.get("annotations") or {}).get(SIBLING_SOURCE, "")
    return Kinship(str(owners[0]["uid"]), source)


def template_digest(template: Object) -> str:
    """Equal for equal pod templates."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def clash_of(spec: Object) -> str:
    """Why a sibling's pods could not be told from a Deployment's own; "" where they can.

    They have all labels of its pods, so that its Services select them too, and one of their own.
    Its selector is immutable: it must leave out pods with that label already.
    """
    selector = selector_text(spec.get("selector") or {})
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not selects(selector, {**labels, SIBLING: _OWN}):
        return ""
    return (
        f"its selector ({selector}) would select the pods of a sibling too, and cannot be changed:"
        f" make it anew with {{key: {SIBLING}, operator: DoesNotExist}} in matchExpressions"
    )
