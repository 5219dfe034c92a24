"""The reference's answers for one replica, reckoned there in single precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlloop.queueing.documents import analyze_documents, size_documents
from controlloop.queueing.models import queue_models

NAME = "reference/queue-vectors.json"
TOLERANCE = 2e-3
WAIT_TOLERANCE = 1e-3

LoadJson = Callable[[str], Any]


def assert_same(found: dict[str, Any], wanted: dict[str, Any], place: str) -> None:
    assert list(found) == list(wanted), place
    for key, value in wanted.items():
        if key == "at":
            assert_same(found[key], value, f"{place}.at")
        elif key == "wait_ms":
            allowed = WAIT_TOLERANCE * wanted["response_ms"]
            assert found[key] == pytest.approx(value, abs=allowed), f"{place}.{key}"
        else:
            assert found[key] == pytest.approx(value, rel=TOLERANCE), f"{place}.{key}"


@pytest.mark.parametrize(
    ("kind", "answer"), [("analyze", analyze_documents), ("size", size_documents)]
)
def test_all_vectors_agree(kind: str, answer: Callable[..., Any], shared_json: LoadJson) -> None:
    vectors = shared_json(NAME)["vectors"]
    assert len(vectors) == 188
    inputs = [vector["input"] for vector in vectors]
    found = answer(inputs, queue_models().create("state-dependent"))
    assert len(found) == len(inputs)
    for index, vector in enumerate(vectors):
        expected = vector["expected"]
        wanted = expected.get(kind, {"error": expected.get(f"{kind}_error")})
        if "error" in wanted:
            assert found[index] == wanted, index
        else:
            # The order in which keys stand is no promise of JSON's.
            ordered = {key: wanted[key] for key in found[index]}
            assert len(ordered) == len(wanted)
            assert_same(found[index], ordered, f"[{index}]")
