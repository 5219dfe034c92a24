"""What `tune seed` found, as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from controlloop.api.convert import spec_from_perf
from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.cli.tables import plain_table, print_tables
from controlloop.tuner.seed_pairs import LeftOut, SeededPair
from controlloop.tuner.seed_source import Basis

_LIMITS: Final = (
    "No kernels were measured on these cards: from the limits of their data sheet, which no"
    " engine reaches."
)


def print_pair(found: SeededPair) -> None:
    """Print the parameters of one pair, each with the range that it likely lies in."""
    right = ("Value", "Likely from", "to")
    table = plain_table("Queue model", "Parameter", *right, right=right)
    for name, seed in found.seeds.items():
        for parameter, value in seed.values.items():
            factor = math.exp(seed.errors[parameter])
            cells = (f"{each:.4g}" for each in (value, value / factor, value * factor))
            table.add_row(name, parameter, *cells)
    fits = ", ".join(f"{name} {seed.misfit:.1%}" for name, seed in found.seeds.items())
    about = (
        f"{found.pair.target}, {found.pair.target.engine}: from {found.basis},"
        f" {found.package}. Room for {found.room_tokens:.0f} tokens: maxBatchSize"
        f" {found.max_batch} at {found.pair.at_tokens} tokens."
    )
    fitted = f"Typical misfit to what was estimated: {fits}. Ranges hold the estimate's own error."
    limits = [_LIMITS] if found.basis is Basis.LIMITS else []
    print_tables(about, table, fitted, *limits)


def print_pairs(found: Sequence[SeededPair | LeftOut]) -> None:
    """Print one row a pair: the parameters of the usual queue model, and what was left out."""
    right = ("Cards", "Batch", "alpha", "beta", "gamma", "delta")
    table = plain_table("Model", "On", "From", *right, right=right)
    for each in found:
        if isinstance(each, LeftOut):
            continue
        pair = each.pair
        values = each.seeds[DEFAULT_QUEUE_MODEL].values.values()
        table.add_row(
            pair.model,
            pair.accelerator,
            each.basis,
            str(pair.target.cards),
            str(each.max_batch),
            *(f"{value:.3g}" for value in values),
        )
    left = [f"Left out: {each.reason}" for each in found if isinstance(each, LeftOut)]
    if any(isinstance(each, SeededPair) and each.basis is Basis.LIMITS for each in found):
        left.append(f"{Basis.LIMITS}: {_LIMITS}")
    print_tables(table, *left)


def pairs_document(found: Sequence[SeededPair | LeftOut]) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "pairs": [_pair_document(each) for each in found if isinstance(each, SeededPair)],
        "leftOut": [
            {"name": each.pair.model, "acc": each.pair.accelerator, "reason": each.reason}
            for each in found
            if isinstance(each, LeftOut)
        ],
    }


def _pair_document(found: SeededPair) -> dict[str, Any]:
    target = found.pair.target
    return {
        "name": found.pair.model,
        "acc": found.pair.accelerator,
        "system": target.system,
        "cards": target.cards,
        "engine": target.engine,
        "source": found.package,
        "basis": str(found.basis),
        "kvTokens": found.room_tokens,
        "seeds": [
            {
                "entry": spec_from_perf(found.perf(name)).document(),
                "logErrors": dict(seed.errors),
                "misfit": seed.misfit,
            }
            for name, seed in found.seeds.items()
        ],
    }
