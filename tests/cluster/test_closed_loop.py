"""Load and prices change: a server changes batch, accelerator and replicas, and nobody notices."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from testbed.daemon import Daemon, data_files
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GPU, PRODUCT_LABEL, GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.replica import Load
from testbed.waiting import until

CARDS: Mapping[str, int] = {"A100": 6, "H100": 4}
CHAT = ManagedServer("chat", replicas=3, max_batch=8, ready_after="2s")
ITL_MS, TTFT_MS = 12.0, 1000.0
MEAN_MS = "1000 * sum(rate({0}_sum[5s])) / sum(rate({0}_count[5s]))"
LATENCIES = {
    "vllm:inter_token_latency_seconds": ITL_MS,
    "vllm:time_to_first_token_seconds": TTFT_MS,
}


@dataclass
class Watch:
    """Looks at the cards that pods ask for, and at the latencies of emulated requests."""

    fleet: Fleet
    prometheus: Prometheus
    began: float = field(default_factory=time.time)
    most: Counter[str] = field(default_factory=Counter)

    def place(self) -> tuple[str, str, int] | None:
        """Accelerator, batch and replicas; None while a switch is under way."""
        asked: Counter[str] = Counter()
        for pod in self.fleet.pods("chat"):
            cards = int(pod.spec.containers[0].resources.limits[GPU])
            asked[pod.spec.node_selector[PRODUCT_LABEL]] += cards
        self.most |= asked
        found = self.fleet.deployment("chat")
        if "inferno.server.switch" in (found.metadata.annotations or {}):
            return None
        said = "inferno.server.allocation."
        labels = found.metadata.labels
        accelerator, batch = labels[f"{said}accelerator"], labels[f"{said}maxbatchsize"]
        return accelerator, batch, found.spec.replicas

    def worst(self, name: str) -> float:
        """The longest mean latency over five seconds since it began, in ms."""
        means = [
            self.prometheus.value(MEAN_MS.format(name), self.began + second)
            for second in range(int(time.time() - self.began))
        ]
        return max(mean for mean in means if mean is not None)


def test_load_and_prices_move_a_server_between_batches_and_accelerators_within_objectives(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus, new_daemon: Callable[..., Daemon]
) -> None:
    for product, cards in CARDS.items():
        fleet.add_nodes(GpuNode(product=product, gpus=cards))
    fleet.add_servers(CHAT)
    emulator.set_load("chat", Load(rate_rps=30.0))
    fleet.await_ready("chat", 3)
    templates = {
        name: {"node_selector": {PRODUCT_LABEL: name}, "limits": {GPU: "1"}} for name in CARDS
    }
    switching = {"templates": templates, "switch_cycles": 2}
    settings = {
        "actuator": switching,
        "cycle": {"period_s": 1.5, "deadline_s": 10.0},
        # What is foreseen from half a minute of history is none of this.
        "forecaster": {"name": "last-value"},
    }
    daemon = new_daemon(settings=settings, capacity=CARDS)
    watch = Watch(fleet, prometheus)
    daemon.start()

    # Three replicas of batch 8 serve what two of a larger batch do.
    def fewer() -> bool:
        place = watch.place()
        return place is not None and place[0] == "A100" and place[1] != "8" and place[2] == 2

    until(fewer, "a larger batch", timeout_s=90.0, pause_s=0.5)
    # The price of the other one falls, and the load rises meanwhile.
    files = data_files(CARDS)
    files["accelerator-data.json"]["accelerators"][1]["cost"] = 10.0
    daemon.write_data(files)
    emulator.set_load("chat", Load(rate_rps=36.0))

    def moved() -> bool:
        place = watch.place()
        return place is not None and place[0] == "H100"

    until(moved, "the cheaper accelerator", timeout_s=90.0, pause_s=0.5)
    emulator.set_load("chat", Load(rate_rps=8.0))
    until(lambda: (watch.place() or ("", "", 9))[2] == 1, "one replica", 90.0, pause_s=0.5)
    reasons = {each.reason for each in fleet.core.list_namespaced_event(fleet.namespace).items}
    assert {"SwitchBegun", "SwitchServes", "SwitchDone", "ScaledDown"} <= reasons
    assert daemon.metric("controlloop_switch_steps_total", step="end") >= 2
    assert {name: watch.most[name] <= CARDS[name] for name in CARDS} == dict.fromkeys(CARDS, True)
    for name, objective_ms in LATENCIES.items():
        assert watch.worst(name) <= objective_ms
