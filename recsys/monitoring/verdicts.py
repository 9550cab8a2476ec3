"""What a comparison of two copies came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "differs", "unreadable", "skipped"]

MOST_EXAMPLES = 10
LONGEST_EXAMPLE = 300


@dataclass(frozen=True)
class Comparison:
    """One row of the table ``consistency``."""

    one_copy: str
    other_copy: str
    verdict: Verdict
    checked: int = 0
    differing: int = 0
    examples: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        return self.verdict in {"differs", "unreadable"}

    def __str__(self) -> str:
        """A line for people."""
        said = f"{self.one_copy} | {self.other_copy}: {self.verdict}"
        if self.checked:
            said += f", {self.differing} of {self.checked} differ"
        if self.reason:
            said += f" ({self.reason})"
        return said + "".join(f"\n    {example}" for example in self.examples)


def compared(
    one: str, other: str, *, checked: int, differing: int, examples: Sequence[str], reason: str = ""
) -> Comparison:
    """The comparison of copies that could both be read."""
    shown = tuple(example[:LONGEST_EXAMPLE] for example in examples[:MOST_EXAMPLES])
    verdict: Verdict = "differs" if differing else "ok"
    return Comparison(one, other, verdict, checked, differing, shown, reason)


def unreadable(one: str, other: str, reason: str, examples: Sequence[str] = ()) -> Comparison:
    """One of the two could not be read."""
    return Comparison(one, other, "unreadable", examples=tuple(examples), reason=reason[:2000])


def skipped(one: str, other: str, reason: str) -> Comparison:
    """There was nothing to compare."""
    return Comparison(one, other, "skipped", reason=reason)
