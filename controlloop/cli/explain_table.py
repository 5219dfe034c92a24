"""An explanation for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controlloop.api.explanation import Binding, Explanation, Option, ShadowPrice, Standing
from controlloop.api.explanation_document import value_unit
from controlloop.api.system import Allocation, Target
from controlloop.cli.tables import plain_table, print_tables
from controlloop.units import rpm_from_rps

_NUMBERS = ("Req/min", "Repl.", "Cards", "Cents/h", "Value", "W")
_STYLES = {Standing.CHOSEN: "bold green", Standing.FEASIBLE: ""}


def print_explanation(explanation: Explanation) -> None:
    """Print it."""
    print_tables(*explanation_parts(explanation))


def explanation_parts(explanation: Explanation) -> Iterator[RenderableType]:
    """What `print_explanation` prints, part by part."""
    yield Text(_asked(explanation))
    yield Text(_got(explanation), style="bold")
    if explanation.options:
        yield _options(explanation)
    if explanation.bindings:
        lines = [Text(_bound(each, explanation)) for each in explanation.bindings]
        yield Group("What kept it from something else:", *lines)
    if explanation.shadow_prices is not None:
        lines = [Text(_priced(each, explanation)) for each in explanation.shadow_prices]
        yield Group("One more card of each type:", *lines)


def _asked(explanation: Explanation) -> str:
    server, load = explanation.server, explanation.server.current.load
    priority = "" if explanation.priority is None else f", priority {explanation.priority}"
    demand = f"demand {rpm_from_rps(explanation.demand_rps):.1f} req/min"
    tokens = f"{load.input_tokens:g} input and {load.output_tokens:g} output tokens"
    lines = [
        f"{server.name}: {server.model} in class {server.service_class}{priority}",
        f"{demand} ({explanation.demand_from}) of {tokens}",
        f"targets: {_targets(explanation.target)}",
        f"runs now: {_named(server.current)}",
    ]
    return "\n".join(lines)


def _targets(target: Target | None) -> str:
    if target is None or target.is_empty:
        return "none"
    parts = (
        (target.itl_ms, _named_latency("ITL", target.itl_percentile), "ms"),
        (target.ttft_ms, _named_latency("TTFT", target.ttft_percentile), "ms"),
        (target.tps, "TPS", "tokens/s"),
    )
    return ", ".join(f"{name} {value:g} {unit}" for value, name, unit in parts if value > 0)


def _named_latency(name: str, percentile: float) -> str:
    return f"{name} p{percentile:g}" if percentile else name


def _named(allocation: Allocation) -> str:
    if not allocation.total_replicas:
        return "nothing"
    parts = [
        f"{part.replicas} of {part.accelerator}" for part in allocation.variants or (allocation,)
    ]
    return f"{' + '.join(parts)}, {allocation.total_cost_per_hour:.2f} cents/h"


def _got(explanation: Explanation) -> str:
    found, short = explanation.allocation, explanation.shortfall
    text = "gets nothing, and keeps what it has" if found is None else f"gets {_named(found)}"
    if short is not None:
        return f"{text} ({short.reason}: {short.detail})"
    value, other = explanation.value, explanation.next_best
    if found is None or value is None:
        return text
    alone = "on one accelerator " if found.variants else ""
    if other is None:
        return f"{text}: nothing else {alone}that is allowed serves it and fits"
    extra_value = other.value - value
    extra_cost = other.allocation.cost_per_hour - found.total_cost_per_hour
    return (
        f"{text}; next best {alone}is {_named(other.allocation)}: value {extra_value:+.2f}"
        f" {value_unit(explanation.objective)}, cost {extra_cost:+.2f} cents/h"
    )


def _options(explanation: Explanation) -> Table:
    table = plain_table("On", "Stands", *_NUMBERS, "Because", right=_NUMBERS)
    for column in table.columns[:-1]:
        column.no_wrap = True
    table.padding = (0, 1, 0, 0)
    for option in explanation.options:
        table.add_row(
            Text(option.accelerator or "none"),
            str(option.standing),
            *_numbers(option),
            Text(option.reason),
            style=_STYLES.get(option.standing, "dim"),
        )
    return table


def _numbers(option: Option) -> tuple[str, ...]:
    candidate = option.candidate
    if candidate is None:
        return ("-",) * len(_NUMBERS)
    return (
        f"{rpm_from_rps(candidate.rate_rps):.1f}",
        str(candidate.allocation.replicas),
        str(candidate.cards),
        f"{candidate.allocation.cost_per_hour:.2f}",
        f"{candidate.value:.2f}",
        "-" if candidate.power_w is None else f"{candidate.power_w:.0f}",
    )


def _bound(binding: Binding, explanation: Explanation) -> str:
    name = binding.accelerator or "none"
    saving = ""
    if binding.saving is not None:
        saving = f" (it would save {binding.saving:.2f} {value_unit(explanation.objective)})"
    return f"  {binding.limit}, {name}: {binding.detail}{saving}"


def _priced(price: ShadowPrice, explanation: Explanation) -> str:
    parts = []
    if price.saving is not None and abs(price.saving) > 0:
        verb = "saves" if price.saving > 0 else "costs"
        unit = value_unit(explanation.objective)
        parts.append(f"{verb} {abs(price.saving):.2f} {unit} in all")
    if price.newly_served:
        parts.append(f"serves {', '.join(price.newly_served)} too")
    if price.no_longer_served:
        parts.append(f"leaves {', '.join(price.no_longer_served)} unserved")
    if price.allocation is not None:
        parts.append(f"{explanation.server.name} would get {_named(price.allocation)}")
    return f"  {price.card_type}: {'; '.join(parts) or 'changes nothing'}"
