"""JSON text to plain values: position of a syntax error, keys given twice kept in sight."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from controlloop.errors import InputError, Problem


class JsonObject(dict[str, Any]):
    """A JSON object that remembers which of its keys stood there more than once."""

    # Of many small objects, an attribute table each would be most of the memory.
    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: tuple[str, ...] = ()
        if len(self) < len(pairs):
            given = Counter(key for key, _ in pairs)
            self.repeated = tuple(key for key, times in given.items() if times > 1)


def parse_json(text: str | bytes, source: str = "") -> Any:
    """The values that `text` stands for; objects as `JsonObject`. NaN is left to the forms.

    Raises:
        InputError: it is no JSON; names line and column.

    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(decoded.removeprefix("\ufeff"), object_pairs_hook=JsonObject)
    except json.JSONDecodeError as error:
        rule = f"is not JSON: {error.msg[0].lower()}{error.msg[1:]}"
        problem = Problem(f"line {error.lineno}, column {error.colno}", rule)
    except UnicodeDecodeError as error:
        problem = Problem(f"byte {error.start}", "must be UTF-8 text")
    except RecursionError:
        problem = Problem("", "is nested too deeply")
    except ValueError:
        problem = Problem("", "holds a number with too many digits")
    raise InputError([problem], source)
