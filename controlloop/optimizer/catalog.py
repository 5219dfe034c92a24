"""Cards and models that systems are made up from; `config/README.md` explains the formulas.

Illustrative numbers, plausible for what they are named after: from data sheets, not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.system import Accelerator, PerfParameters, Power
from controlloop.units import ms_from_s

_MEMORY_SHARE: Final = 0.75
_DECODE_SHARE: Final = 0.4
_PREFILL_SHARE: Final = 0.5
_USABLE_MEMORY: Final = 0.9
_TOKENS_HELD: Final = 768
_MOST_TOKENS_HELD: Final = 1536
_PROMPT_TOKENS: Final = 512
_AT_TOKENS: Final = 512
_LARGEST_BATCH: Final = 128
_SMALLEST_BATCH: Final = 8
# Every so many cards the catalog begins anew, with faster and dearer ones.
_SPEED_UP: Final = 1.25
_MID_UTILIZATION: Final = 0.6
_MID_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class Card:
    """One type of card: memory in GB, bandwidth in GB/s, dense bf16 in TFLOP/s, link in ms."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    tflops: float
    cost_per_hour: float
    link_ms: float
    idle_w: float
    full_w: float


@dataclass(frozen=True, slots=True)
class Model:
    """One model: parameters in 10⁹, KV cache in bytes a token."""

    name: str
    parameters_b: float
    kv_bytes: float


CARDS: Final = (
    Card("L4", 24, 300, 121, 50, 2.5, 16, 72),
    Card("A10", 24, 600, 125, 80, 2.5, 22, 150),
    Card("L40S", 48, 864, 362, 125, 2.5, 35, 350),
    Card("A100", 80, 2039, 312, 250, 0.8, 60, 400),
    Card("H100", 80, 3350, 989, 590, 0.8, 70, 700),
    Card("H200", 141, 4800, 989, 720, 0.8, 75, 700),
    Card("MI300X", 192, 5300, 1307, 640, 0.9, 130, 750),
    Card("B200", 180, 8000, 2250, 1150, 0.7, 120, 1000),
)


def card(number: int) -> Card:
    """The card of that number from 0; beyond the catalog, its cards in later generations."""
    generation, at = divmod(number, len(CARDS))
    base = CARDS[at]
    if not generation:
        return base
    faster = _SPEED_UP**generation
    return replace(
        base,
        name=f"{base.name}-{generation + 1}",
        memory_gb=round(base.memory_gb * faster),
        bandwidth_gb_s=round(base.bandwidth_gb_s * faster),
        tflops=round(base.tflops * faster),
        cost_per_hour=round(base.cost_per_hour * faster),
        full_w=round(base.full_w * faster),
        idle_w=round(base.idle_w * faster),
    )


def accelerator(of: Card, multiplicity: int) -> Accelerator:
    """So many cards as one unit."""
    return Accelerator(
        name=of.name if multiplicity == 1 else f"{multiplicity}x{of.name}",
        type=of.name,
        multiplicity=multiplicity,
        cost_per_hour=of.cost_per_hour * multiplicity,
        memory_gb=of.memory_gb * multiplicity,
        bandwidth_gb_s=of.bandwidth_gb_s * multiplicity,
        power=Power(
            idle_w=of.idle_w * multiplicity,
            full_w=of.full_w * multiplicity,
            mid_w=round(of.full_w * _MID_SHARE) * multiplicity,
            mid_utilization=_MID_UTILIZATION,
        ),
    )


def units_needed(model: Model, of: Card, multiplicity: int) -> int:
    """The fewest units, a power of two, that hold the model and a batch worth the name."""
    units = 1
    while _batch(model, of, units * multiplicity) < _SMALLEST_BATCH:
        units *= 2
    return units


def performance(model: Model, of: Card, multiplicity: int, units: int) -> PerfParameters:
    """How a model performs on so many units of so many cards."""
    cards = units * multiplicity
    bytes_per_s = _MEMORY_SHARE * cards * of.bandwidth_gb_s * 1e9
    flop_per_s = cards * of.tflops * 1e12
    link_ms = of.link_ms * math.log2(cards)
    alpha = ms_from_s(_weights(model) / bytes_per_s) + 0.5 + link_ms
    flop = 2 * model.parameters_b * 1e9
    beta = ms_from_s(
        model.kv_bytes * _TOKENS_HELD / bytes_per_s + flop / (_DECODE_SHARE * flop_per_s)
    )
    token_ms = ms_from_s(flop / (_PREFILL_SHARE * flop_per_s))
    parameters = (alpha, beta, alpha + _PROMPT_TOKENS * token_ms, 0.05 * token_ms)
    return PerfParameters(
        model=model.name,
        accelerator=accelerator(of, multiplicity).name,
        parameters=tuple(float(f"{each:.3g}") for each in parameters),
        max_batch=min(_batch(model, of, cards), _LARGEST_BATCH),
        at_tokens=_AT_TOKENS,
        accelerators_per_replica=units,
    )


def _weights(model: Model) -> float:
    """Bytes of the weights in bf16."""
    return 2 * model.parameters_b * 1e9


def _batch(model: Model, of: Card, cards: int) -> int:
    free = _USABLE_MEMORY * of.memory_gb * 1e9 * cards - _weights(model)
    return int(free / (model.kv_bytes * _MOST_TOKENS_HELD))
