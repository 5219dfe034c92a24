from __future__ import annotations

import pytest

from controlloop.api.decision import Patch
from controlloop.api.observation import WorkloadRef
from controlloop.errors import InvalidObjectError
from controlloop.kube.writes import patch_body

REF = WorkloadRef("llm", "llama", "u1", "42")


def test_a_patch_names_the_version_it_rests_on_and_only_what_changes() -> None:
    assert patch_body(Patch(REF, "s", 2, 5, {}, "")) == {
        "metadata": {"uid": "u1", "resourceVersion": "42"},
        "spec": {"replicas": 5},
    }
    assert patch_body(Patch(REF, "s", 2, 2, {"a": "b"}, "")) == {
        "metadata": {"uid": "u1", "resourceVersion": "42", "labels": {"a": "b"}},
    }


@pytest.mark.parametrize("ref", [WorkloadRef("a", "b", "u1"), WorkloadRef("a", "b", "", "42")])
def test_a_patch_that_rests_on_nothing_is_not_sent(ref: WorkloadRef) -> None:
    with pytest.raises(InvalidObjectError, match="Deployment a/b"):
        patch_body(Patch(ref, "s", 2, 5, {}, ""))
