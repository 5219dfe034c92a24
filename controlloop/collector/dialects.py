"""How each engine names what it measures: one entry an engine.

Where versions differ, the names stand in order of preference; a pod that shows several is
read by the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from controlloop.errors import UnknownPluginError


class Signal(StrEnum):
    """What is asked of the metric source: one query each, whatever the dialects."""

    FINISHED = "finished requests"
    RUNNING = "running requests"
    WAITING = "waiting requests"
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"
    TTFT = "time to first token"
    ITL = "inter-token latency"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A mean: a counter of what is summed over a counter of how often."""

    total: str
    count: str

    @classmethod
    def of_histogram(cls, name: str) -> Ratio:
        """The mean of a histogram; its buckets are never asked for."""
        return cls(f"{name}_sum", f"{name}_count")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The metric names of one engine.

    Attributes:
        name: what settings call it.
        completions: counter of finished requests, one series a reason.
        rejections: counter of requests turned away; an engine that has none never turns away.
        running: gauge of requests in service.
        waiting: gauge of requests waiting.
        input_tokens: mean input tokens of a request.
        output_tokens: mean output tokens of a request.
        ttft_s: mean time to first token, seconds.
        itl_s: mean time between two output tokens, seconds.

    """

    name: str
    completions: tuple[str, ...]
    rejections: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    input_tokens: tuple[Ratio, ...]
    output_tokens: tuple[Ratio, ...]
    ttft_s: tuple[Ratio, ...]
    itl_s: tuple[Ratio, ...]


VLLM: Final = Dialect(
    name="vllm",
    completions=("vllm:request_success_total",),
    rejections=("vllm:admission_rejections_total",),
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    input_tokens=(Ratio.of_histogram("vllm:request_prompt_tokens"),),
    output_tokens=(Ratio.of_histogram("vllm:request_generation_tokens"),),
    ttft_s=(Ratio.of_histogram("vllm:time_to_first_token_seconds"),),
    itl_s=(
        Ratio.of_histogram("vllm:inter_token_latency_seconds"),
        Ratio.of_histogram("vllm:time_per_output_token_seconds"),
    ),
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({VLLM.name: VLLM})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names of one or more dialects together, in order of preference."""

    completions: tuple[str, ...]
    rejections: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    ratios: Mapping[Signal, tuple[Ratio, ...]]

    @classmethod
    def of(cls, dialects: Sequence[Dialect]) -> Vocabulary:
        """The vocabulary of `dialects`."""
        return cls(
            completions=tuple(name for one in dialects for name in one.completions),
            rejections=tuple(name for one in dialects for name in one.rejections),
            running=tuple(name for one in dialects for name in one.running),
            waiting=tuple(name for one in dialects for name in one.waiting),
            ratios=MappingProxyType(
                {
                    Signal.INPUT_TOKENS: tuple(r for one in dialects for r in one.input_tokens),
                    Signal.OUTPUT_TOKENS: tuple(r for one in dialects for r in one.output_tokens),
                    Signal.TTFT: tuple(r for one in dialects for r in one.ttft_s),
                    Signal.ITL: tuple(r for one in dialects for r in one.itl_s),
                }
            ),
        )

    def metrics(self, signal: Signal) -> tuple[str, ...]:
        """The names of all metrics that `signal` is made of."""
        if signal in self.ratios:
            pairs = [(ratio.total, ratio.count) for ratio in self.ratios[signal]]
            return tuple(name for pair in pairs for name in pair)
        return {
            Signal.FINISHED: self.completions + self.rejections,
            Signal.RUNNING: self.running,
            Signal.WAITING: self.waiting,
        }[signal]


def vocabulary_of(names: Sequence[str]) -> Vocabulary:
    """The vocabulary of the dialects of these names.

    Raises:
        UnknownPluginError: a name is unknown, or none is given; the message lists the known.

    """
    unknown = [name for name in names if name not in DIALECTS]
    if unknown or not names:
        asked = ", ".join(repr(name) for name in unknown) or "none at all"
        raise UnknownPluginError(f"unknown engine dialect: {asked}; known: {', '.join(DIALECTS)}")
    return Vocabulary.of([DIALECTS[name] for name in names])
