"""What a report says besides its servers, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlloop.api.decision import PatchStatus

NOT_DONE: Final = (PatchStatus.FAILED, PatchStatus.NOT_SENT)


def remarks(document: Mapping[str, Any]) -> list[str]:
    """One line for each thing that went wrong or is to be known, from a report as a document."""
    lines = []
    failure, problem = document["failure"], document["metricsProblem"]
    if failure:
        lines.append(f"the cycle ended in its {failure['stage']} stage: {failure['message']}")
    if document.get("maintenance"):
        lines.append(f"maintenance, nothing is written: {document['maintenance']}")
    if problem:
        lines.append(f"metrics: {problem}")
    if document["succeeded"] and not document["servers"]:
        lines.append("no managed Deployment was found: see controlloop doctor")
    lines += [f"{each['server']}: refused: {each['reason']}" for each in document["refusals"]]
    lines += [
        f"{each['server']}: {each['status']}: {each['detail']}"
        for each in document["patches"]
        if each["status"] in NOT_DONE
    ]
    return lines + [f"note: {note}" for note in document["notes"]]


def all_done(document: Mapping[str, Any]) -> bool:
    """Whether the cycle ran to its end and every change that it decided was made."""
    undone = [each for each in document["patches"] if each["status"] in NOT_DONE]
    return bool(document["succeeded"]) and not undone
