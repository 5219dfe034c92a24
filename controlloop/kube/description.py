"""What a workload says of itself in labels and annotations, with every bad value found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controlloop.api import labels as keys
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.spec_types import LARGEST_NUMBER
from controlloop.api.system import DEFAULT_CLASS, Load
from controlloop.units import rps_from_rpm

MOST: Final = 2**31 - 1
"""The largest count that Kubernetes itself has."""


@dataclass(frozen=True, slots=True)
class Description:
    """The labels and annotations in our words; `holds` name what is wrong with them.

    `values` are those keys as they were written, annotations before labels.
    """

    server: str
    model: str
    service_class: str
    accelerator: str
    max_batch: int
    min_replicas: int | None
    max_replicas: int | None
    keep_accelerator: bool
    keep_batch: bool
    static_load: Load | None
    values: Mapping[str, str]
    holds: tuple[Hold, ...]


def describe(
    labels: Mapping[str, str], annotations: Mapping[str, str], unnamed: str
) -> Description:
    """Read the description; a bad value holds the workload as it is and is named.

    Args:
        labels: the workload's labels.
        annotations: its annotations; the same key there takes precedence.
        unnamed: what the server is called in reports where it does not name itself.

    """
    both = {**labels, **annotations}
    reader = _Reader({key: both[key] for key in sorted(both) if key.startswith(keys.PREFIX)})
    least, most = reader.count(keys.MIN_REPLICAS), reader.count(keys.MAX_REPLICAS)
    if least is not None and most is not None and most < least:
        reader.complain(keys.MAX_REPLICAS, f"must be >= {keys.MIN_REPLICAS} ({least})")
    if most == 0:
        reader.complain(keys.MAX_REPLICAS, "must be >= 1: nothing shows demand at no replica")
    paused = _paused(reader)
    return Description(
        server=reader.required(keys.NAME) or unnamed,
        model=reader.required(keys.MODEL),
        service_class=reader.text(keys.CLASS) or DEFAULT_CLASS,
        accelerator=reader.required(keys.ACCELERATOR),
        max_batch=reader.count(keys.MAX_BATCH) or 0,
        min_replicas=least,
        max_replicas=most,
        keep_accelerator=reader.flag(keys.KEEP_ACCELERATOR),
        keep_batch=reader.flag(keys.KEEP_BATCH),
        static_load=_load(reader),
        values=reader.values,
        holds=tuple(reader.holds) + paused,
    )


_PAUSES: Final = {"up": Forbids.INCREASE, "down": Forbids.DECREASE, "all": Forbids.CHANGE}


def _paused(reader: _Reader) -> tuple[Hold, ...]:
    if reader.flag(keys.PAUSED):
        return (Hold(HoldReason.PAUSED, Forbids.CHANGE, f"{keys.PAUSED} is set"),)
    way = reader.choice(keys.PAUSE, tuple(_PAUSES))
    if not way:
        return ()
    return (Hold(HoldReason.PAUSED, _PAUSES[way], f"{keys.PAUSE} is {way}"),)


def _load(reader: _Reader) -> Load | None:
    rate_rpm = reader.amount(keys.LOAD_RPM)
    tokens = [reader.amount(key) for key in (keys.LOAD_INPUT_TOKENS, keys.LOAD_OUTPUT_TOKENS)]
    if rate_rpm is None:
        return None
    if None in tokens and rate_rpm > 0:
        needed = f"{keys.LOAD_INPUT_TOKENS} and {keys.LOAD_OUTPUT_TOKENS}"
        reader.complain(keys.LOAD_RPM, f"says no load without {needed}")
        return None
    return Load(rps_from_rpm(rate_rpm), tokens[0] or 0.0, tokens[1] or 0.0)


class _Reader:
    """Reads single keys; what is wrong becomes a hold and reads as absent."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.holds: list[Hold] = []

    def complain(self, key: str, rule: str) -> None:
        shown = f", got {self.values[key]!r:.80}" if key in self.values else ""
        self.holds.append(Hold(HoldReason.LABELS_INVALID, Forbids.CHANGE, f"{key}: {rule}{shown}"))

    def text(self, key: str) -> str:
        value = self.values.get(key, "").strip()
        if value.isprintable():
            return value
        # An annotation may hold anything, and what it holds is shown on terminals.
        self.complain(key, "must be printable text")
        return ""

    def required(self, key: str) -> str:
        value = self.text(key)
        if not self.values.get(key, "").strip():
            self.complain(key, "must be given, as label or annotation")
        return value

    def count(self, key: str) -> int | None:
        text = self.text(key)
        if not text:
            return None
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(MOST))
        if digits and int(text) <= MOST:
            return int(text)
        self.complain(key, f"must be a whole number from 0 to {MOST}")
        return None

    def amount(self, key: str) -> float | None:
        text = self.text(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if 0 <= value <= LARGEST_NUMBER:
            return value
        self.complain(key, f"must be a number from 0 to {LARGEST_NUMBER:g}")
        return None

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        text = self.text(key).lower()
        if text and text not in known:
            self.complain(key, f"must be {', '.join(known[:-1])} or {known[-1]}")
            return ""
        return text

    def flag(self, key: str) -> bool:
        text = self.text(key).lower()
        if text not in ("", "true", "false"):
            self.complain(key, "must be true or false")
        return text == "true"
