"""The page of metrics of one emulated vLLM server, in names and labels as vLLM 0.32 has them.

Hundreds of pods are scraped every second by one test process: the text is made once for a
model, and a scrape only fills in the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import accumulate
from typing import Final

from testbed.replica import (
    ITL_BOUNDS,
    SECONDS_BOUNDS,
    TOKEN_BOUNDS,
    TTFT_BOUNDS,
    FluidReplica,
    Histogram,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ITL_NAME: Final = "vllm:inter_token_latency_seconds"
OLD_ITL_NAME: Final = "vllm:time_per_output_token_seconds"
FINISHED_REASONS: Final = ("stop", "length", "abort", "error")


def vllm_page(replica: FluidReplica, model: str, itl_name: str = ITL_NAME) -> str:
    """All metrics of `replica`, which serves `model`; older versions call ITL `OLD_ITL_NAME`."""
    return _template(model, itl_name) % tuple(_values(replica))


def gateway_page(namespace: str, arrived: Mapping[str, float]) -> str:
    """What a gateway before the servers counts: every request that came, by Deployment."""
    return _family(
        "gateway_requests_total",
        "counter",
        (
            f'gateway_requests_total{{namespace="{namespace}",deployment="{name}"}} {int(count)}'
            for name, count in arrived.items()
        ),
    )


@cache
def _template(model: str, itl_name: str) -> str:
    labels = f'engine="0",model_name="{model}"'
    success = (
        f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} %s'
        for reason in FINISHED_REASONS
    )
    page = [_family("vllm:request_success_total", "counter", success)]
    for name, kind in (
        ("vllm:prompt_tokens_total", "counter"),
        ("vllm:generation_tokens_total", "counter"),
        ("vllm:num_requests_running", "gauge"),
        ("vllm:num_requests_waiting", "gauge"),
        ("vllm:kv_cache_usage_perc", "gauge"),
    ):
        page.append(_family(name, kind, [f"{name}{{{labels}}} %s"]))
    for name, bounds in (
        ("vllm:time_to_first_token_seconds", TTFT_BOUNDS),
        (itl_name, ITL_BOUNDS),
        ("vllm:e2e_request_latency_seconds", SECONDS_BOUNDS),
        ("vllm:request_queue_time_seconds", SECONDS_BOUNDS),
        ("vllm:request_prompt_tokens", TOKEN_BOUNDS),
        ("vllm:request_generation_tokens", TOKEN_BOUNDS),
    ):
        limits = (*(str(float(bound)) for bound in bounds), "+Inf")
        lines = [f'{name}_bucket{{{labels},le="{limit}"}} %s' for limit in limits]
        lines += [f"{name}_count{{{labels}}} %s", f"{name}_sum{{{labels}}} %s"]
        page.append(_family(name, "histogram", lines))
    cache_config = 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="8192"} 1'
    page.append(_family("vllm:cache_config_info", "gauge", [cache_config]))
    start = "process_start_time_seconds"
    page.append(_family(start, "gauge", [f"{start} %s"]))
    return "".join(page)


def _values(replica: FluidReplica) -> Iterator[float]:
    for reason in FINISHED_REASONS:
        yield replica.completed if reason == "length" else 0
    yield int(replica.prompt_tokens_total)
    yield int(replica.generated_tokens_total)
    yield replica.running
    yield replica.waiting
    yield replica.running / replica.max_batch
    for histogram in (
        replica.ttft,
        replica.itl,
        replica.response,
        replica.queue_time,
        replica.prompt_tokens,
        replica.generated_tokens,
    ):
        yield from _histogram(histogram)
    yield replica.started_at


def _histogram(histogram: Histogram) -> Iterator[float]:
    yield from accumulate(histogram.counts)
    yield histogram.count
    yield histogram.sum


def _family(name: str, kind: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# TYPE {name} {kind}", *lines, ""])
