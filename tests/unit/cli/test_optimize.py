from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from controlloop.api.convert import spec_from_system
from controlloop.api.files import read_system, write_document
from controlloop.cli.optimize import optimize
from controlloop.errors import InputError
from controlloop.optimizer.generation import Size, generate

pytestmark = pytest.mark.slow

SYSTEM: dict[str, Any] = {
    "system": {
        "acceleratorData": {
            "accelerators": [
                {"name": "A100", "type": "A100", "multiplicity": 1, "cost": 40},
                {"name": "G2", "type": "G2", "multiplicity": 1, "cost": 23},
            ]
        },
        "capacityData": {"count": [{"type": "A100", "count": 2}, {"type": "G2", "count": 10}]},
        "modelData": {
            "models": [
                {
                    "name": "llama",
                    "acc": name,
                    "maxBatchSize": 32,
                    "atTokens": 512,
                    "decodeParms": {"alpha": 20.0, "beta": 0.4},
                    "prefillParms": {"gamma": 160.0, "delta": 0.01},
                }
                for name in ("A100", "G2")
            ]
        },
        "serviceClassData": {
            "serviceClasses": [
                {
                    "name": "Premium",
                    "priority": 1,
                    "modelTargets": [{"model": "llama", "slo-itl": 40, "slo-ttft": 1000}],
                },
                {
                    "name": "Strict",
                    "priority": 2,
                    "modelTargets": [{"model": "llama", "slo-itl": 4}],
                },
            ]
        },
        "serverData": {
            "servers": [
                {"name": "chat", "class": "Premium", "model": "llama", "currentAlloc": alloc}
                for alloc in (
                    {"load": {"arrivalRate": 60, "avgInTokens": 128, "avgOutTokens": 512}},
                )
            ]
            + [
                {
                    "name": "agents",
                    "class": "Strict",
                    "model": "llama",
                    "currentAlloc": {
                        "accelerator": "A100",
                        "numReplicas": 2,
                        "cost": 80,
                        "load": {"arrivalRate": 6, "avgInTokens": 128, "avgOutTokens": 512},
                    },
                }
            ]
        },
    }
}
FILES = {
    "acceleratorData": "accelerator-data.json",
    "capacityData": "capacity-data.json",
    "modelData": "model-data.json",
    "serviceClassData": "serviceclass-data.json",
    "serverData": "server-data.json",
}


def run(*arguments: str, text: str = "", width: int = 120) -> Result:
    app = typer.Typer()
    app.command()(optimize)
    runner = CliRunner(env={"COLUMNS": str(width)})
    return runner.invoke(app, list(arguments), input=text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "system.json"
    path.write_text(json.dumps(SYSTEM))
    return path


def test_json_is_the_documented_solution_with_the_unserved_beside_it(file: Path) -> None:
    result = run(str(file), "--format", "json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer) == {"allocations", "unserved"}
    chat = answer["allocations"]["chat"]
    assert (chat["accelerator"], chat["maxBatch"]) == ("G2", 32)
    assert chat["cost"] == 23 * chat["numReplicas"]
    assert 0 < chat["itlAverage"] <= 40
    assert 0 < chat["ttftAverage"] <= 1000
    assert chat["load"] == {"arrivalRate": 60, "avgInTokens": 128, "avgOutTokens": 512}
    assert set(answer["allocations"]) == {"chat"}
    assert answer["unserved"]["agents"]["reason"] == "target-unreachable"
    assert "ITL 4 ms is below the least possible 20" in answer["unserved"]["agents"]["detail"]


def test_percentiles_and_confidence_are_asked_for_by_file_and_by_option(tmp_path: Path) -> None:
    def replicas(target: dict[str, float], *options: str) -> int:
        document = copy.deepcopy(SYSTEM)
        system = document["system"]
        system["serviceClassData"]["serviceClasses"][0]["modelTargets"][0] |= target
        system["serverData"]["servers"][0]["currentAlloc"]["load"]["arrivalRate"] = 6000
        system["capacityData"]["count"][1]["count"] = 1000
        unsure = [[0.04 if row == column else 0.0 for column in range(4)] for row in range(4)]
        for entry in system["modelData"]["models"]:
            entry["logCovariance"] = unsure
        path = tmp_path / "system.json"
        path.write_text(json.dumps(document))
        result = run(str(path), "--format", "json", *options)
        assert result.exit_code == 0, result.output
        return int(json.loads(result.stdout)["allocations"]["chat"]["numReplicas"])

    mean = replicas({})
    assert replicas({"slo-ttft-percentile": 50}) <= mean
    assert replicas({"slo-itl": 35}, "--confidence", "0.9") > replicas({"slo-itl": 35})
    assert replicas({"slo-ttft-percentile": 99, "slo-ttft": 300}) > replicas({"slo-ttft": 300})


def test_where_another_solver_stands_in_stderr_and_the_json_say_so(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlloop.optimizer.milp.backends import PulpBackend

    exact = ("--set", "solver=milp-cplex")
    plain = json.loads(run(str(file), "--format", "json", "--set", "solver=milp").stdout)
    monkeypatch.setattr(PulpBackend, "available", lambda self: self.name == "HiGHS")
    answer = run(str(file), "--format", "json", *exact)
    warning = "warning: CPLEX is not installed: HiGHS solved it instead"
    assert answer.stderr.splitlines() == [warning]
    document = json.loads(answer.stdout)
    assert {key: document[key] for key in plain} == plain
    told = document["solver"]
    assert told["message"] == warning.removeprefix("warning: ")
    assert (told["asked"], told["used"], told["status"]) == ("milp-cplex", "milp", "optimal")
    assert (told["gap"], told["value"]) == (0, told["bound"])
    table = run(str(file), *exact)
    assert table.stderr.splitlines() == [warning]
    assert "milp instead of milp-cplex: optimal" in table.stdout
    both = run(str(file), *exact, "--scale", "2")
    assert both.stderr.splitlines() == [
        warning.replace(": ", ": before: ", 1),
        warning.replace(": ", ": after: ", 1),
    ]


def test_on_request_the_json_always_tells_how_it_was_found(file: Path) -> None:
    plain = json.loads(run(str(file), "--format", "json").stdout)
    told = json.loads(run(str(file), "--format", "json", "--details").stdout)
    solver = told.pop("solver")
    assert told == plain
    assert (solver["asked"], solver["used"], solver["status"]) == ("greedy", "greedy", "optimal")
    assert solver["message"] == ""
    assert solver["seconds"] > 0
    both = json.loads(run(str(file), "--format", "json", "--details", "--scale", "2").stdout)
    assert both["before"]["solver"]["used"] == both["after"]["solver"]["used"] == "greedy"


def hard_system(tmp_path: Path) -> str:
    """A system that takes a program to prove."""
    path = tmp_path / "hard.json"
    spec = spec_from_system(generate(Size(60, 9, 12, 3, 1.1)))
    write_document(spec, path)
    return str(path)


def test_the_time_limit_and_the_gap_end_the_search(tmp_path: Path) -> None:
    hard = hard_system(tmp_path)

    def solver(*arguments: str) -> dict[str, Any]:
        given = (hard, "--format", "json", "--details", "--set", "solver=milp", *arguments)
        result = run(*given)
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout)["solver"]
        return told

    assert solver()["status"] == "optimal"
    timed = solver("--time-limit", "1e-6")
    assert timed["status"] == "feasible"
    assert timed["message"].startswith("the best answer found in 1e-06 s")
    # What the command line says counts, not the data.
    assert solver("--set", "timeLimit=1e-6", "--time-limit", "60")["status"] == "optimal"
    assert solver("--set", "timeLimit=1e-6")["status"] == "feasible"
    loose = solver("--gap", "1")
    assert (loose["status"], loose["used"]) == ("feasible", "milp")
    assert loose["message"].startswith("good enough within the gap of 1 that was allowed")
    assert loose["gap"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--time-limit", "0"), "--time-limit: must be > 0, got 0"),
        (("--time-limit", "nan"), "--time-limit: "),
        (("--time-limit", "inf"), "--time-limit: "),
        (("--gap", "-0.1"), "--gap: must be >= 0, got -0.1"),
        (("--gap", "1.5"), "--gap: must be <= 1, got 1.5"),
        (("--confidence", "2"), "--confidence: must be < 1, got 2"),
    ],
)
def test_limits_out_of_bounds_are_refused(
    file: Path, arguments: tuple[str, str], message: str
) -> None:
    result = run(str(file), *arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_a_solver_of_a_third_party_that_raises_ends_in_greedys_answer(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising_solver.py").write_text(
        "class Raising:\n"
        "    name = 'raising'\n"
        "    def solve(self, candidates, capacity, options):\n"
        "        raise RuntimeError('out of luck')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(str(file), "--format", "json", "--set", "solver=raising_solver:Raising")
    assert result.exit_code == 0, result.output
    assert "warning: raising failed (RuntimeError: out of luck)" in result.stderr
    document = json.loads(result.stdout)
    assert document["allocations"]["chat"]["accelerator"] == "G2"
    assert (document["solver"]["asked"], document["solver"]["used"]) == ("raising", "greedy")


def test_folder_file_and_standard_input_give_one_answer(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for part, name in FILES.items():
        (folder / name).write_text(json.dumps(SYSTEM["system"][part]))
    answers = [
        run(str(file), "--format", "json").stdout,
        run(str(folder), "--format", "json").stdout,
        run("-", "--format", "json", text=json.dumps(SYSTEM)).stdout,
    ]
    assert answers[0] == answers[1] == answers[2] != ""


def test_the_table_shows_allocations_targets_reasons_cards_and_cost(file: Path) -> None:
    result = run(str(file))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    row = next(line for line in lines if line.strip().startswith("chat"))
    for cell in ("Premium", "G2", "32", " / 40", " / 1000"):
        assert cell in row
    reason = next(line for line in lines if "target-unreachable" in line)
    assert "ITL 4 ms" in reason
    assert "runs 2 of A100" in result.stdout
    assert any(line.split() == ["A100", "0", "2"] for line in lines)
    assert "1 of 2 servers served whole" in result.stdout
    assert "(now 80.00)" in result.stdout
    assert "\x1b[" not in result.stdout


def test_the_table_fits_eighty_columns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from controlloop.api.convert import system_from_spec
    from controlloop.cli.optimize_table import solution_parts
    from controlloop.optimizer import optimize as solve

    system = system_from_spec(read_system(str(file)))
    console = Console(width=80, force_terminal=False, record=True)
    with console.capture() as captured:
        for part in solution_parts(system, solve(system)):
            console.print(part)
    text = captured.get()
    assert max(len(line) for line in text.splitlines()) <= 80
    # Numbers are never broken over two lines, nor cut.
    assert "…" not in text
    assert " / 1000" in text


def test_names_that_lead_nowhere_are_warnings_with_their_consequence(tmp_path: Path) -> None:
    system = copy.deepcopy(SYSTEM)
    system["system"]["serverData"]["servers"][1]["class"] = "Gold"
    result = run("-", "--format", "json", text=json.dumps(system))
    assert result.exit_code == 0
    assert 'servers[1].class: there is no class "Gold"' in result.stderr
    assert json.loads(result.stdout)["unserved"]["agents"]["reason"] == "unknown-class"


def test_bad_input_ends_with_every_error_and_code_2(tmp_path: Path) -> None:
    system = copy.deepcopy(SYSTEM)
    system["system"]["serverData"]["servers"][0]["currentAlloc"]["load"]["arrivalRate"] = -4
    system["system"]["modelData"]["models"][0]["maxBatchSize"] = 0
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(system))
    command = [sys.executable, "-m", "controlloop", "optimize", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert any(
        "servers[0].currentAlloc.load.arrivalRate" in line and "-4" in line for line in lines
    )
    assert any("models[0].maxBatchSize" in line and "got 0" in line for line in lines)


def test_what_if_puts_both_answers_side_by_side(file: Path) -> None:
    result = run(str(file), "--scale", "3", "--what-if", "capacity.G2=4")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    chat = next(line for line in lines if line.strip().startswith("chat")).split()
    assert chat[2:5] == ["1", "of", "G2"]
    assert chat[6:9] == ["2", "of", "G2"]
    assert chat[-1] == "+23.00"
    assert any(line.split() == ["G2", "1", "10", "2", "4"] for line in lines)
    assert any("served whole" in line and "1 of 2" in line for line in lines)
    agents = next(line for line in lines if line.strip().startswith("agents"))
    assert agents.count("not served") == 2


def test_what_if_as_json_carries_both_solutions_and_the_difference(file: Path) -> None:
    result = run(str(file), "--what-if", "load.chat=x3", "--format", "json")
    answer = json.loads(result.stdout)
    before, after = answer["before"], answer["after"]
    assert before == json.loads(run(str(file), "--format", "json").stdout)
    assert after["allocations"]["chat"]["load"]["arrivalRate"] == 180
    assert answer["difference"]["cost"] == 23
    assert answer["difference"]["served"] == 0
    assert answer["difference"]["changedServers"] == ["chat"]


def test_a_scale_of_one_changes_nothing(file: Path) -> None:
    answer = json.loads(run(str(file), "--scale", "1", "--format", "json").stdout)
    assert answer["before"] == answer["after"]


def test_flags_of_the_command_line_stand_above_those_of_the_data(file: Path) -> None:
    none = {"system": {**SYSTEM["system"], "capacityData": {"count": []}}}
    text = json.dumps(none)
    plain = run("-", "--format", "json", text=text)
    assert json.loads(plain.stdout)["allocations"] == {}
    unlimited = run("-", "--format", "json", "--set", "UNLIMITED=true", text=text)
    assert set(json.loads(unlimited.stdout)["allocations"]) == {"chat"}


def test_the_answer_can_be_saved_as_the_next_question(file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "next.json"
    first = run(str(file), "--what-if", "load.chat=x3", "--save", str(saved), "--format", "json")
    servers = {
        each["name"]: each
        for each in json.loads(saved.read_text())["system"]["serverData"]["servers"]
    }
    allocations = json.loads(first.stdout)["after"]["allocations"]
    assert servers["chat"]["currentAlloc"] == allocations["chat"]
    assert servers["agents"]["currentAlloc"]["numReplicas"] == 2
    again = json.loads(run(str(saved), "--format", "json").stdout)
    assert again["allocations"] == allocations


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (["--scale", "-1"], ["--scale: must be a number >= 0, got -1"]),
        (
            ["--scale", "nan", "--what-if", "capacity.H100=1"],
            [
                "--scale: must be a number >= 0, got nan",
                '--what-if capacity.H100=1: there is no card type "H100"',
            ],
        ),
        (["--what-if", "chat=2"], ["--what-if chat=2: must be capacity.TYPE"]),
        (
            ["--set", "unlimitd=true", "--set", "milpSolver=3"],
            [
                "--set: milpSolver: must be true or false, got 3",
                "--set: unlimitd: is not a known key; did you mean unlimited?",
            ],
        ),
        (["--set", "unlimited"], ["--set unlimited: must be FLAG=VALUE"]),
        (["--set", "gap=" + "9" * 5000], ["--set: gap: must be a number, got"]),
        (["--set", "gap=" + "[" * 50_000], ["--set: gap: must be a number, got"]),
        # What is there but is no queue model serves nobody: that is no answer.
        (["--queue-model", "os:system"], ["queue model 'os:system' cannot be built: TypeError"]),
        (["--queue-model", "json:JSONDecoder"], ["gives a JSONDecoder, which is none"]),
        (["--set", "solver=os:system"], ["solver 'os:system' cannot be built: TypeError"]),
        (["--save", "/nowhere/at/all.json"], ["--save: cannot be written: No such file"]),
    ],
)
def test_a_question_that_cannot_be_asked_ends_with_code_2(
    file: Path, arguments: list[str], errors: list[str]
) -> None:
    command = [sys.executable, "-m", "controlloop", "optimize", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(errors)
    for error in errors:
        assert any(error in line for line in lines), done.stderr


@pytest.mark.parametrize("arguments", [[], ["--what-if", "load.chat=x3"], ["--scale", "0"]])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_an_answer_can_be_drawn(
    file: Path, tmp_path: Path, arguments: list[str], suffix: str
) -> None:
    picture = tmp_path / f"answer.{suffix}"
    result = run(str(file), *arguments, "--plot", str(picture))
    assert result.exit_code == 0, result.output
    start = picture.read_bytes()[:1000]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in start


def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_solved(file: Path) -> None:
    result = run(str(file), "--plot", "answer.pdf")
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "--plot: must end in .png or .svg, got answer.pdf"
    assert result.stdout == ""


def test_a_fleet_too_large_for_a_picture_shows_its_dearest_servers(tmp_path: Path) -> None:
    from controlloop.api.system import System
    from controlloop.cli.answer_picture import draw, story_of
    from controlloop.cli.compare import Answer
    from controlloop.optimizer import optimize as solve
    from controlloop.optimizer.generation import Size, generate

    system: System = generate(Size(90, 6, seed=2))
    picture = tmp_path / "fleet.svg"
    draw(story_of(None, Answer(system, solve(system))), picture)
    shown = [each.name for each in system.servers if f"{each.name}  (" in picture.read_text()]
    assert len(shown) <= 40
