"""Health as others ask for it: yes or no, and why not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`, or the reasons why not; `remarks` are to be known and speak against nothing."""

    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons
