"""The metrics of simulated replicas, as a real Prometheus scrapes them from vLLM.

An ASGI application: `/metrics/POD` is the page of one replica, `/targets` names all of them for
Prometheus's HTTP service discovery, with `namespace` and `pod` as labels.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from controlloop.simulator.events import ReplicaMeter
from controlloop.simulator.plant import NAMESPACE

METRICS: Final = "/metrics/"
TARGETS: Final = "/targets"
# Old and new name: which of them an engine shows depends on its version.
ITL_NAMES: Final = ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


def page_of(meter: ReplicaMeter) -> bytes:
    """The metrics of one replica, under vLLM's names; histograms have their last bucket only."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(meter))
    return generate_latest(registry)


class Pages:
    """Serves the replicas that `look` finds.

    Args:
        look: every replica that runs now, by the name of its pod.

    """

    def __init__(self, look: Callable[[], Mapping[str, ReplicaMeter]]) -> None:
        self._look = look

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's arguments
        """Answer one request."""
        if scope["type"] != "http":
            return
        host = next(
            (value for name, value in scope["headers"] if name == b"host"), b"127.0.0.1"
        ).decode()
        status, kind, body = self.answer(scope["path"], host)
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, path: str, host: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a path, asked for at `host`."""
        replicas = self._look()
        if path == TARGETS:
            targets = [
                {
                    "targets": [host],
                    "labels": {
                        "__metrics_path__": METRICS + pod,
                        "namespace": NAMESPACE,
                        "pod": pod,
                        "server": meter.server,
                    },
                }
                for pod, meter in sorted(replicas.items())
            ]
            return 200, "application/json", json.dumps(targets).encode()
        pod = path.removeprefix(METRICS)
        if path.startswith(METRICS) and pod in replicas:
            return 200, CONTENT_TYPE_PLAIN_0_0_4, page_of(replicas[pod])
        known = "".join(f"{METRICS}{each}\n" for each in sorted(replicas))
        body = f"no such page; there are\n{TARGETS}\n{known}"
        return 404, "text/plain; charset=utf-8", body.encode()


class _Page(Collector):
    def __init__(self, meter: ReplicaMeter) -> None:
        self._meter = meter

    def collect(self) -> Iterator[Metric]:
        meter, counts = self._meter, self._meter.counts
        labels, own = ("engine", "model_name"), ("0", meter.model)
        success = CounterMetricFamily(
            "vllm:request_success", "Requests answered.", labels=(*labels, "finished_reason")
        )
        success.add_metric((*own, "stop"), 0.0)
        success.add_metric((*own, "length"), counts.completed)
        yield success
        for name, value in (
            ("vllm:prompt_tokens", counts.input_tokens),
            ("vllm:generation_tokens", counts.gaps + counts.first_tokens),
            ("vllm:num_preemptions", counts.preemptions),
        ):
            counter = CounterMetricFamily(name, name, labels=labels)
            counter.add_metric(own, value)
            yield counter
        for name, value in (
            ("vllm:num_requests_running", meter.running),
            ("vllm:num_requests_waiting", meter.waiting),
        ):
            gauge = GaugeMetricFamily(name, name, labels=labels)
            gauge.add_metric(own, value)
            yield gauge
        for name, count, total in (
            ("vllm:time_to_first_token_seconds", counts.first_tokens, counts.ttft_s),
            *((name, counts.gaps, counts.gaps_s) for name in ITL_NAMES),
            ("vllm:request_queue_time_seconds", counts.first_tokens, counts.queued_s),
            ("vllm:e2e_request_latency_seconds", counts.completed, counts.stayed_s),
            ("vllm:request_prompt_tokens", counts.completed, counts.input_tokens),
            ("vllm:request_generation_tokens", counts.completed, counts.output_tokens),
        ):
            histogram = HistogramMetricFamily(name, name, labels=labels)
            histogram.add_metric(own, [("+Inf", count)], total)
            yield histogram
