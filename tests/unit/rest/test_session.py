from __future__ import annotations

from typing import Any

import pytest

from controlloop.rest.commands import COMMANDS

PATHS = [
    ("POST", "/setAccelerators"),
    ("GET", "/getAccelerators"),
    ("GET", "/getAccelerator/{name}"),
    ("POST", "/addAccelerator"),
    ("GET", "/removeAccelerator/{name}"),
    ("POST", "/setCapacities"),
    ("GET", "/getCapacities"),
    ("GET", "/getCapacity/{type}"),
    ("POST", "/setCapacity"),
    ("GET", "/removeCapacity/{type}"),
    ("POST", "/setModels"),
    ("GET", "/getModels"),
    ("GET", "/getModel/{name}"),
    ("GET", "/addModel/{name}"),
    ("GET", "/removeModel/{name}"),
    ("POST", "/setServiceClasses"),
    ("GET", "/getServiceClasses"),
    ("GET", "/getServiceClass/{name}"),
    ("GET", "/addServiceClass/{name}/{priority}"),
    ("GET", "/removeServiceClass/{name}"),
    ("POST", "/addServiceClassModelTargets"),
    ("GET", "/getServiceClassModelTarget/{class}/{model}"),
    ("GET", "/removeServiceClassModelTarget/{class}/{model}"),
    ("POST", "/setServers"),
    ("GET", "/getServers"),
    ("GET", "/getServer/{name}"),
    ("POST", "/addServer"),
    ("GET", "/removeServer/{name}"),
    ("GET", "/getModelAcceleratorPerf/{model}/{acc}"),
    ("POST", "/addModelAcceleratorPerf"),
    ("GET", "/removeModelAcceleratorPerf/{model}/{acc}"),
    ("POST", "/optimize"),
    ("POST", "/optimizeOne"),
    ("GET", "/applyAllocation"),
]
LLAMA, GRANITE = "meta-llama/Llama-3.1-8B", "granite"
L4 = {"name": "L4", "type": "L4", "cost": 50}
A100 = {"name": "A100", "type": "A100", "cost": 400, "memSize": 80}


def perf(model: str, acc: str, alpha: float = 10.0) -> dict[str, Any]:
    return {
        "name": model,
        "acc": acc,
        "maxBatchSize": 64,
        "atTokens": 256,
        "decodeParms": {"alpha": alpha, "beta": 0.2},
        "prefillParms": {"gamma": 20, "delta": 0.01},
    }


def server(name: str, model: str, rate: float) -> dict[str, Any]:
    load = {"arrivalRate": rate, "avgInTokens": 128, "avgOutTokens": 256}
    return {"name": name, "class": "Premium", "model": model, "currentAlloc": {"load": load}}


def target(model: str) -> dict[str, Any]:
    return {"model": model, "slo-itl": 60, "slo-ttft": 1000}


def within(given: Any, answer: Any) -> bool:
    """Whether `answer` says all that was given; defaults may stand beside."""
    if isinstance(given, dict):
        return all(key in answer and within(value, answer[key]) for key, value in given.items())
    if isinstance(given, list):
        return len(given) == len(answer) and all(map(within, given, answer))
    return bool(given == answer)


def test_the_commands_are_the_documented_ones() -> None:
    assert [(command.verb, command.path) for command in COMMANDS] == PATHS


def test_a_stateful_session_of_every_command(full: Any) -> None:
    def put(path: str, body: Any) -> None:
        assert within(body, full.post(path, body))

    # Accelerators.
    put("/setAccelerators", {"accelerators": [L4]})
    put("/addAccelerator", A100)
    assert within({"accelerators": [L4, A100]}, full.get("/getAccelerators"))
    assert within(A100, full.get("/getAccelerator/A100"))
    h100 = {"name": "H100", "type": "H100", "cost": 900}
    put("/addAccelerator", h100)
    assert within(h100, full.get("/removeAccelerator/H100"))
    full.refused("GET", "/getAccelerator/H100", 404)

    # Capacities.
    put("/setCapacities", {"count": [{"type": "L4", "count": 4}]})
    put("/setCapacity", {"type": "A100", "count": 2})
    put("/setCapacity", {"type": "A100", "count": 8})
    assert full.get("/getCapacity/A100") == {"type": "A100", "count": 8}
    put("/setCapacity", {"type": "H100", "count": 8})
    assert full.get("/removeCapacity/H100") == {"type": "H100", "count": 8}
    full.refused("GET", "/getCapacity/H100", 404)
    counts = [{"type": "L4", "count": 4}, {"type": "A100", "count": 8}]
    assert full.get("/getCapacities") == {"count": counts}

    # Models and what they do on accelerators.
    put("/setModels", {"models": [perf(GRANITE, "A100")]})
    assert full.get(f"/addModel/{LLAMA}") == {"models": []}
    put("/addModelAcceleratorPerf", perf(LLAMA, "A100"))
    put("/addModelAcceleratorPerf", perf(LLAMA, "L4", alpha=40.0))
    assert full.get("/getModels") == [GRANITE, LLAMA]
    assert within(
        {"models": [perf(LLAMA, "A100"), perf(LLAMA, "L4", 40.0)]}, full.get(f"/getModel/{LLAMA}")
    )
    assert within(perf(LLAMA, "L4", 40.0), full.get(f"/getModelAcceleratorPerf/{LLAMA}/L4"))
    gone = full.get(f"/removeModelAcceleratorPerf/{LLAMA}/L4")
    assert within(perf(LLAMA, "L4", 40.0), gone)
    full.refused("GET", f"/getModelAcceleratorPerf/{LLAMA}/L4", 404)
    full.get("/addModel/other")
    put("/addModelAcceleratorPerf", perf("other", "A100"))
    assert within({"models": [perf("other", "A100")]}, full.get("/removeModel/other"))
    assert full.get("/getModels") == [GRANITE, LLAMA]

    # Classes.
    put("/setServiceClasses", {"serviceClasses": [{"name": "Bronze", "priority": 50}]})
    assert full.get("/addServiceClass/Premium/1")["priority"] == 1
    given = {"name": "Premium", "modelTargets": [target(LLAMA), target(GRANITE)]}
    whole = full.post("/addServiceClassModelTargets", given)
    assert within(given | {"priority": 1}, whole)
    assert full.get("/getServiceClass/Premium") == whole
    assert within(target(LLAMA), full.get(f"/getServiceClassModelTarget/Premium/{LLAMA}"))
    gone = full.get(f"/removeServiceClassModelTarget/Premium/{GRANITE}")
    assert within(target(GRANITE), gone)
    full.refused("GET", f"/getServiceClassModelTarget/Premium/{GRANITE}", 404)
    assert full.get("/removeServiceClass/Bronze")["name"] == "Bronze"
    classes = full.get("/getServiceClasses")["serviceClasses"]
    assert [each["name"] for each in classes] == ["Premium"]
    assert [each["model"] for each in classes[0]["modelTargets"]] == [LLAMA]

    # Servers.
    put("/setServers", {"servers": [server("a", LLAMA, 60)]})
    put("/addServer", server("b", GRANITE, 30))
    put("/addServer", server("c", LLAMA, 1))
    assert within(server("c", LLAMA, 1), full.get("/removeServer/c"))
    assert [each["name"] for each in full.get("/getServers")["servers"]] == ["a", "b"]
    assert within(server("b", GRANITE, 30), full.get("/getServer/b"))

    # Solutions.
    solution = full.post("/optimize", {"saturationPolicy": "RoundRobin"})
    assert list(solution["allocations"]) == ["a"]
    assert solution["allocations"]["a"]["accelerator"] == "A100"
    assert solution["unserved"]["b"]["reason"] == "no-target"
    assert full.get("/getServer/a")["desiredAlloc"] == solution["allocations"]["a"]
    assert "desiredAlloc" not in full.get("/getServer/b")
    before = full.get("/getServer/b")["currentAlloc"]
    assert full.get("/applyAllocation") == full.get("/getServers")
    assert full.get("/getServer/a")["currentAlloc"] == solution["allocations"]["a"]
    assert full.get("/getServer/b")["currentAlloc"] == before

    one = {"system": {"acceleratorData": {"accelerators": [L4]}, "modelData": {"models": []}}}
    one["system"]["serviceClassData"] = {"serviceClasses": []}
    one["system"]["serverData"] = {"servers": [server("z", LLAMA, 60)]}
    assert full.post("/optimizeOne", one)["unserved"]["z"]["reason"] == "unknown-class"
    assert [each["name"] for each in full.get("/getServers")["servers"]] == ["z"]
    assert full.get("/getModels") == []
    asked = {(verb, path.split("/")[1]) for verb, path in full.asked}
    assert asked == {(verb, path.split("/")[1]) for verb, path in PATHS}


def test_a_stateless_session_of_every_command(stateless: Any, system: Any, parts: Any) -> None:
    assert stateless.get("/getServers") == {"servers": []}
    solution = stateless.post("/optimizeOne", system)
    assert solution["allocations"]
    assert within(parts["accelerator"], stateless.get("/getAccelerators"))
    assert within(parts["capacity"], stateless.get("/getCapacities"))
    assert within(parts["serviceclass"], stateless.get("/getServiceClasses"))
    assert within(parts["server"], stateless.get("/getServers"))
    models = list(dict.fromkeys(each["name"] for each in parts["model"]["models"]))
    assert stateless.get("/getModels") == models
    first = {
        "/getAccelerator/{name}": parts["accelerator"]["accelerators"][0],
        "/getCapacity/{type}": parts["capacity"]["count"][0],
        "/getServiceClass/{name}": parts["serviceclass"]["serviceClasses"][0],
        "/getServer/{name}": parts["server"]["servers"][0],
    }
    for path, entry in first.items():
        name = entry["type" if "type}" in path else "name"]
        assert within(entry, stateless.get(path.partition("{")[0] + name))
    pair = parts["model"]["models"][0]
    assert within(pair, stateless.get(f"/getModelAcceleratorPerf/{pair['name']}/{pair['acc']}"))
    assert within(pair, stateless.get(f"/getModel/{pair['name']}")["models"][0])
    some = parts["serviceclass"]["serviceClasses"][0]
    aim = some["modelTargets"][0]
    found = stateless.get(f"/getServiceClassModelTarget/{some['name']}/{aim['model']}")
    assert within(aim, found)
    for each in stateless.get("/getServers")["servers"]:
        assert each.get("desiredAlloc") == solution["allocations"].get(each["name"])


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.needs_full], ids=lambda each: each.name
)
def test_what_a_stateless_server_does_not_have_it_says(stateless: Any, command: Any) -> None:
    path = command.path.replace("{priority}", "1").replace("{", "").replace("}", "")
    body = b"{}" if command.verb == "POST" else None
    assert "-F" in stateless.refused(command.verb, path, 409, body)["message"]


def test_the_shipped_sample_gets_the_same_answer_in_both_modes(
    full: Any, stateless: Any, system: Any, parts: Any
) -> None:
    full.post("/setAccelerators", parts["accelerator"])
    full.post("/setCapacities", parts["capacity"])
    full.post("/setModels", parts["model"])
    full.post("/setServiceClasses", parts["serviceclass"])
    full.post("/setServers", parts["server"])
    answer = stateless.post("/optimizeOne", system)
    assert full.post("/optimize", parts["optimizer"]) == answer
    assert full.post("/optimize", parts["optimizer"]["optimizer"]) == answer
    assert full.post("/optimizeOne", system) == answer


def test_the_reference_sample_gets_its_reference_solution(stateless: Any, shared_json: Any) -> None:
    system = shared_json("sample/small/system-data.json")
    expected = shared_json("sample/small/solution-data.json")["allocations"]
    given = stateless.post("/optimizeOne", system)["allocations"]
    keys = ("accelerator", "numReplicas", "maxBatch")
    assert {name: [each[key] for key in keys] for name, each in given.items()} == {
        name: [each[key] for key in keys] for name, each in expected.items()
    }
