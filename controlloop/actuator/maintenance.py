"""The switch that stops all writes to the fleet while the loop goes on looking and deciding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST_REASON: Final = 200
UNSAID: Final = "no reason is given"


def _nobody() -> None:
    return None


@dataclass(frozen=True, slots=True)
class MaintenanceSwitch:
    """Thrown by whom holds the Lease's annotation, or by a file that is there.

    Attributes:
        annotated: the text of the annotation; None where it is not there, or says "false".
        file: whose presence throws it, and whose text is the reason; None for none.

    """

    annotated: Callable[[], str | None] = _nobody
    file: Path | None = None

    def reason(self) -> str:
        """Why nothing is to be written now; "" where writing is allowed. It is read each time."""
        said = self.annotated()
        if said is not None:
            return _told("Lease", said)
        if self.file is None:
            return ""
        try:
            return _told(self.file.name, self.file.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return ""
        except OSError as error:
            # Whether it is thrown cannot be known: then nothing is written.
            return _told(self.file.name, f"cannot be read: {error.strerror}")


def _told(where: str, said: str) -> str:
    words = "".join(each if each.isprintable() else " " for each in said).split()
    return f"{where}: {' '.join(words)[:LONGEST_REASON] or UNSAID}"
