"""What the JSON forms are made of: the base of every form and its kinds of values.

Types are strict where JSON has the type: "3" is no number and true is not 1. Each bound keeps
the arithmetic that follows finite and within 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from controlloop.api.system import LEAST_CONFIDENCE

LARGEST_COUNT: Final = 10**9
LARGEST_NUMBER: Final = 1e12
# Longer than an hour nobody waits for an answer over HTTP.
LARGEST_TIME_LIMIT_S: Final = 3600.0
LARGEST_TOTAL: Final = 10**18


class Form(BaseModel):
    """A JSON form: frozen, read by its documented keys, built by its Python names.

    `controlloop.api.reading.read` reads one from JSON: without regard to the case of keys, with
    all errors at once.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    def document(self) -> dict[str, Any]:
        """The JSON object in the documented spelling; what is not set is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass(frozen=True, slots=True)
class Unique:
    """Marks a list whose entries must differ in `keys` (documented spelling) taken together."""

    keys: tuple[str, ...]


def _whole(value: object) -> object:
    # JSON has one kind of number: 2.0 is the whole number 2.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: float) -> int | float:
    # 46, not 46.0: readers that expect a whole number there refuse the latter.
    return int(value) if value.is_integer() else value


def _confidence(value: float) -> float:
    if 0 < value < LEAST_CONFIDENCE:
        raise PydanticCustomError("rule", f"must be 0 or from {LEAST_CONFIDENCE:g} to below 1")
    return value


_whole_number = BeforeValidator(_whole)
_number = PlainSerializer(_plain, return_type=int | float, when_used="json")

Text = Annotated[str, Field(strict=True)]
Name = Annotated[str, Field(strict=True, min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
WholeNumber = Annotated[int, Field(strict=True), _whole_number]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST_COUNT), _whole_number]
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=LARGEST_COUNT), _whole_number]
CountOrOne = Annotated[Count, AfterValidator(lambda value: value or 1)]
Number = Annotated[
    float,
    Field(strict=True, ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False),
    _number,
]
Quantity = Annotated[
    float, Field(strict=True, ge=0, le=LARGEST_NUMBER, allow_inf_nan=False), _number
]
PositiveQuantity = Annotated[
    float, Field(strict=True, gt=0, le=LARGEST_NUMBER, allow_inf_nan=False), _number
]
TimeLimit = Annotated[
    float, Field(strict=True, gt=0, le=LARGEST_TIME_LIMIT_S, allow_inf_nan=False), _number
]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False), _number]
Confidence = Annotated[
    float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False), AfterValidator(_confidence), _number
]
Percentile = Annotated[float, Field(strict=True, gt=0, lt=100, allow_inf_nan=False), _number]
# What an optimizer answers may be greater than anything that it is told.
TotalCount = Annotated[int, Field(strict=True, ge=0, le=LARGEST_TOTAL), _whole_number]
AnyNumber = Annotated[float, Field(strict=True, allow_inf_nan=False), _number]
Total = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), _number]
