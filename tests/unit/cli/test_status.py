from __future__ import annotations

from typing import Any

import pytest

from controlloop.cli.status import status_table
from controlloop.cli.tables import print_tables


def server(**more: Any) -> dict[str, Any]:
    runs = {"accelerator": "A100", "numReplicas": 2, "itlAverage": 0.0, "ttftAverage": 0.0}
    return {
        "server": "chat",
        "action": "keep",
        "current": runs,
        "desired": runs,
        "holds": [],
        "readyReplicas": 2,
        **more,
    }


def shown(capsys: pytest.CaptureFixture[str], **more: Any) -> list[list[str]]:
    print_tables(status_table({"estimates": [], "servers": [server(**more)]}))
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_siblings_stand_below_their_server_with_what_they_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sibling = {"workload": "w", "accelerator": "H100", "replicas": 3, "readyReplicas": 1}
    alone, both = shown(capsys), shown(capsys, siblings=[sibling])
    assert len(both) == len(alone) + 1
    assert both[-2][:2] == ["chat", "A100"]
    assert both[-1] == ["beside", "it", "H100", "3", "1", "sibling"]
