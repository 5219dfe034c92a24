"""The form of every section of the settings."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

CONFIG_MAP: Final = r"^$|^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"
"""What a ConfigMap is named by: namespace/name, or nothing."""


def setting(default: Any, meaning: str, unit: str = "", off: str = "", **bounds: Any) -> Any:
    """A documented setting; `off` says which value turns it off."""
    extra: dict[str, Any] = {"unit": unit, "off": off}
    if callable(default):
        return Field(
            default_factory=default, description=meaning, json_schema_extra=extra, **bounds
        )
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """Base of every section."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
