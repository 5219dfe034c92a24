"""A quota with scopes counts only pods of its scopes."""

from __future__ import annotations

from typing import Any

import pytest

from controlloop.kube.quota_scopes import counts

CARDS: dict[str, Any] = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
SIZED: dict[str, Any] = {"containers": [{"resources": {"requests": {"cpu": "4"}}}]}
HIGH: dict[str, Any] = SIZED | {"priorityClassName": "high"}


def selector(operator: str, *values: str, scope: str = "PriorityClass") -> dict[str, Any]:
    said: dict[str, Any] = {"scopeName": scope, "operator": operator}
    return {"scopeSelector": {"matchExpressions": [said | ({"values": values} if values else {})]}}


@pytest.mark.parametrize(
    ("quota", "pod", "expected"),
    [
        ({}, CARDS, True),
        ({"scopes": ["NotTerminating"]}, SIZED, True),
        ({"scopes": ["Terminating"]}, SIZED, False),
        ({"scopes": ["Terminating"]}, SIZED | {"activeDeadlineSeconds": 60}, True),
        ({"scopes": ["NotBestEffort"]}, SIZED, True),
        # Cards are no claim on processors or memory.
        ({"scopes": ["NotBestEffort"]}, CARDS, False),
        ({"scopes": ["BestEffort"]}, CARDS, True),
        ({"scopes": ["NotTerminating", "BestEffort"]}, SIZED, False),
        (selector("Exists", scope="NotTerminating"), SIZED, True),
        (selector("In", "high", "low"), HIGH, True),
        (selector("In", "low"), HIGH, False),
        (selector("In", "low"), SIZED, False),
        (selector("NotIn", "low"), HIGH, True),
        (selector("NotIn", "high"), HIGH, False),
        (selector("Exists"), HIGH, True),
        (selector("Exists"), SIZED, False),
        # What it may yet get at admission is not known, and so it is left out.
        (selector("NotIn", "low"), SIZED, False),
        (selector("DoesNotExist"), SIZED, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, SIZED, False),
        (selector("In", "high") | {"scopes": ["Terminating"]}, HIGH, False),
    ],
)
def test_all_scopes_must_fit(quota: dict[str, Any], pod: dict[str, Any], expected: Any) -> None:
    assert counts(quota, pod) is expected
