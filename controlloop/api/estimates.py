"""What an estimator says of each pair, beside the parameters to plan with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Trust(StrEnum):
    """Whether what was learned of a pair may be planned with."""

    WARMING_UP = "warming-up"
    TRUSTED = "trusted"
    DOUBTFUL = "doubtful"


class Origin(StrEnum):
    """Where the parameters that a pair is planned with come from."""

    CONFIGURED = "configured"
    LEARNED = "learned"
    LAST_TRUSTED = "last-trusted"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Latencies of one interval as predicted before it was learned, and as observed.

    Times in ms, None where that latency was not compared. `nis` is the normalised innovation
    squared per latency compared: about 1 where the filter is as good as it holds itself to be.
    """

    time: float
    predicted_ttft_ms: float | None
    observed_ttft_ms: float | None
    predicted_itl_ms: float | None
    observed_itl_ms: float | None
    nis: float


@dataclass(frozen=True, slots=True)
class PairEstimate:
    """One (model, accelerator) pair.

    Attributes:
        model: the model's name.
        accelerator: the accelerator's name.
        queue_model: the queue model whose parameters are learned.
        parameter_names: of `parameters` and `standard_errors`, with their units.
        parameters: as learned so far, in the units of their names.
        standard_errors: of the logarithms of the parameters, which is relative where small.
        trust: whether they may be planned with.
        reason: why not; "" where they may.
        origin: where the parameters to plan with come from.
        accepted: observations learned.
        rejected: observations not learned, by reason.
        last: the last comparison; None before the first.

    """

    model: str
    accelerator: str
    queue_model: str
    parameter_names: tuple[str, ...]
    parameters: tuple[float, ...]
    standard_errors: tuple[float, ...]
    trust: Trust
    reason: str
    origin: Origin
    accepted: int
    rejected: Mapping[str, int]
    last: Comparison | None = None
