"""Every setting of what acts, and of what is served and written, has an effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlloop.actuator.interventions import InterventionOptions
from controlloop.actuator.switching import SwitchOptions
from controlloop.api.decision import Action, PatchStatus
from controlloop.api.switching import Place
from controlloop.errors import ControlLoopError, InputError, SettingsError
from controlloop.rest.server import HttpServer
from controlloop.stability.mix_choice import MixOptions
from controlloop.stability.mixing import MixingPolicy
from controlloop.stability.moving import MoveOptions, MovingPolicy

# --- actuator, lease


@pytest.mark.parametrize("mode", ["apply", "dry-run", "server-dry-run"])
def test_actuator_mode(stand: Any, mode: str) -> None:
    report = stand.cycle(actuator__mode=mode)
    assert (report.shadow is None) is (mode == "apply")
    dry = [one.query.get("dryRun") for one in stand.of("PATCH", "/deployments")]
    assert dry == {"apply": [None], "dry-run": [], "server-dry-run": ["All"]}[mode]


def test_actuator(stand: Any) -> None:
    stand.cycle(actuator__field_manager="me", actuator__write_timeout_s=2)
    (patch,) = stand.of("PATCH", "/deployments")
    assert patch.query["fieldManager"] == "me"
    assert patch.timeout_ms <= 2000
    assert [one.body["reason"] for one in stand.of("POST", "/events")] == ["ScaledDown"]
    stand.asked.clear()
    stand.cycle(actuator__events=False)
    assert stand.of("POST", "/events") == []


def test_actuator_conditions(stand: Any) -> None:
    target = {"kind": "Deployment", "name": "chat0"}
    theirs = {"uid": "h", "resourceVersion": "1", "name": "theirs", "namespace": "llm"}
    hpa = {"metadata": theirs, "spec": {"scaleTargetRef": target}}
    stand.custom["horizontalpodautoscalers"] = [hpa]
    stand.cycle(actuator__conditions=False)
    assert stand.of("PATCH", "/deployments") == []
    stand.cycle(actuator__field_manager="me")
    (patch,) = stand.of("PATCH", "/deployments/chat0")
    assert patch.query["fieldManager"] == "me"
    assert set(patch.body) == {"metadata"}
    assert set(patch.body["metadata"]) == {"uid", "resourceVersion", "annotations"}
    said = json.loads(patch.body["metadata"]["annotations"]["inferno.server.condition"])
    assert (said["status"], said["reason"]) == ("False", "other-scaler")
    assert "theirs" in said["message"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_actuator_concurrency(stand: Any, concurrency: int) -> None:
    stand.servers, stand.patch_takes_s = 6, 0.2
    stand.cycle(actuator__concurrency=concurrency)
    assert len(stand.of("PATCH", "/deployments")) == 6
    assert stand.most_patching == concurrency


def test_actuator_switches(stand: Any) -> None:
    sglang = {"engine": "sglang", "limits": {"gpu": "1"}}
    runner = stand.runner(
        {
            "actuator.templates": {"A100": {"engine": "vllm"}, "L4": sglang},
            "actuator.switch_startup_s": 7.0,
            "actuator.switch_startup_factor": 2.0,
            "actuator.switch_backoff_s": 9.0,
            "actuator.switch_margin": 0.3,
            "actuator.switch_cycles": 4,
            "actuator.switch_batches": False,
        }
    )
    parts = runner._service._cycle._parts
    assert parts.actuator._actuator._options.switch == SwitchOptions(7.0, 2.0, 9.0)
    assert parts.policy._options == MoveOptions(frozenset({"A100", "L4"}), 0.3, 4, batches=False)
    slots = parts.actuator._actuator._options.templates["L4"].slots(Place("L4", 64, 2))
    assert slots["argument/max-running-requests"] == "64"
    assert slots["limits/gpu"] == '"1"'


@pytest.mark.parametrize("spread", ["even", "capacity"])
def test_actuator_siblings(stand: Any, spread: str) -> None:
    given: dict[str, Any] = {
        "actuator.templates": {"A100": {}, "L4": {}},
        "actuator.sibling_spread": spread,
        "stability.down_window_s": 77.0,
        "actuator.switch_startup_s": 7.0,
        "actuator.switch_backoff_s": 9.0,
        "actuator.switch_margin": 0.3,
        "actuator.switch_cycles": 4,
        "actuator.switch_batches": False,
    }
    assert isinstance(stand.runner(given)._service._cycle._parts.policy, MovingPolicy)
    parts = stand.runner({**given, "actuator.siblings": True})._service._cycle._parts
    both = frozenset({"A100", "L4"})
    assert isinstance(parts.policy, MixingPolicy)
    assert parts.policy._options == MixOptions(
        both,
        margin=0.3,
        cycles=4,
        batches=False,
        even=spread == "even",
        startup_s=7.0,
        backoff_s=9.0,
        down_window_s=77.0,
    )
    assert parts.sensor._sensor._options.siblings
    dry = stand.runner({**given, "actuator.siblings": True, "actuator.mode": "dry-run"})
    assert not dry._service._cycle._parts.policy._options.written


def test_actuator_siblings_need_templates(stand: Any) -> None:
    with pytest.raises(InputError, match=r"actuator\.siblings: needs actuator\.templates"):
        stand.runner({"actuator.siblings": True})


@pytest.mark.parametrize("wanted", [False, True])
def test_actuator_object_templates(stand: Any, wanted: bool) -> None:
    runner = stand.runner({"data.source": "crds", "actuator.object_templates": wanted})
    # Without a template in the settings, servers move by those of the objects alone.
    assert isinstance(runner._service._cycle._parts.policy, MovingPolicy) is wanted


def test_actuator_leaves_others_alone(stand: Any) -> None:
    told = {"respect_s": 9.0, "revert_limit": 4, "revert_window_s": 90.0, "revert_backoff_s": 30.0}
    runner = stand.runner({f"actuator__{key}".replace("__", "."): it for key, it in told.items()})
    attention = runner._service._cycle._parts.actuator._attention
    assert attention._options == InterventionOptions(9.0, 4, 90.0, 30.0)
    kept = stand.folder / "others.json"
    stand.cycle(actuator__state_file=str(kept))
    # What was written is still there as it was before: somebody put it back.
    (decided,) = stand.cycle(actuator__state_file=str(kept)).decisions.decisions
    assert {str(hold.reason) for hold in decided.holds} == {"manual-change"}
    stand.cycle(actuator__state_config_map="ns/others", stability__state_config_map="ns/windows")
    written = [one.body["metadata"]["name"] for one in stand.of("POST", "/ns/configmaps")]
    assert written == ["windows", "others"]
    with pytest.raises(SettingsError, match="each would replace the other"):
        stand.cycle(actuator__state_config_map="ns/a", stability__state_config_map="ns/a")


def test_maintenance(stand: Any) -> None:
    file = stand.folder / "maintenance"
    told = {"actuator__maintenance_file": str(file)}
    file.write_text("cables are\nchanged")
    report = stand.cycle(**told)
    assert report.outcome.maintenance == "maintenance: cables are changed"
    assert report.decisions.decisions[0].action is Action.SCALE_DOWN
    assert [one.status for one in report.outcome.patches] == [PatchStatus.NOT_SENT]
    assert stand.of("PATCH", "/deployments") == stand.of("POST", "/events") == []
    stand.away = True
    failed = stand.cycle(**told)
    assert (failed.succeeded, failed.outcome) == (False, None)
    assert failed.maintenance == "maintenance: cables are changed"
    stand.away = False
    file.unlink()
    assert stand.cycle(**told).outcome.maintenance == ""
    assert len(stand.of("PATCH", "/deployments")) == 1


def test_lease(stand: Any) -> None:
    stand.cycle()
    assert stand.of("POST", "/leases") == []
    told = {"namespace": "own", "name": "ours", "identity": "me", "duration_s": 20}
    settings = {f"lease__{key}": it for key, it in told.items()}
    stand.cycle(lease__enabled=True, lease__renew_every_s=3, **settings)
    (made,) = stand.of("POST", "/namespaces/own/leases")
    assert made.body["metadata"]["name"] == "ours"
    assert made.body["spec"]["holderIdentity"].startswith("me_")
    assert made.body["spec"]["leaseDurationSeconds"] == 20
    assert made.timeout_ms <= 3000


# --- http, log, report


def test_http(stand: Any) -> None:
    assert stand.runner({"http.port": -1})._endpoints is None
    endpoints = stand.runner({"http.port": 0, "http.host": "127.0.0.1"})._endpoints
    assert isinstance(endpoints, HttpServer)
    endpoints.start()
    assert endpoints.port > 0
    endpoints.stop()
    nowhere = stand.runner({"http.port": 0, "http.host": "203.0.113.1"})._endpoints
    assert isinstance(nowhere, HttpServer)
    with pytest.raises(ControlLoopError, match=r"203\.0\.113\.1"):
        nowhere.start()


def test_log(stand: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stand.cycle(log__format="json")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"decision", "patch", "cycle"} <= {line["event"] for line in lines}
    stand.cycle(log__format="console", log__level="error")
    assert capsys.readouterr().err == ""


def test_report(stand: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = stand.folder / "reports.jsonl"
    stand.cycle(report__file=str(file))
    stand.cycle(report__file=str(file))
    assert [json.loads(line)["succeeded"] for line in file.read_text().splitlines()] == [True] * 2
    stand.cycle(report__file="-")
    assert json.loads(capsys.readouterr().out)["succeeded"]
    with pytest.raises(SettingsError, match=r"report\.file: must lie in a folder that exists"):
        stand.runner({"report.file": str(stand.folder / "nowhere" / "reports.jsonl")})


def test_recording(stand: Any) -> None:
    file = stand.folder / "cycles.jsonl"
    told = {
        "recording.file": str(file),
        "recording.most_megabytes": 0.001,
        "recording.keep": 1,
    }
    runner = stand.runner(told)
    for _ in range(4):
        assert runner.run_once().succeeded
    names = {each.name for each in stand.folder.iterdir() if each.name.startswith("cycles")}
    assert names == {"cycles.jsonl", "cycles.jsonl.1"}
    header, cycle = (json.loads(line) for line in file.read_text().splitlines())
    assert header["settings"]["stability"]["down_window_s"] == 0
    assert cycle["decided"][0]["server"] == "chat0"
