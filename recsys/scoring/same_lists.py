"""Whether two lists of one user are the same: to the item, but where scores are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE = 1e-5
"""Of a score, relative: other machines may round the encoder's sums differently."""

Place = tuple[str, float, str]
"""Item, score, source."""


def places(row: Mapping[str, Any] | Any) -> list[Place]:
    """Of a row of top_n_lists."""
    return list(zip(row["item_ids"], row["scores"], row["sources"], strict=True))


def difference(written: Sequence[Place] | None, anew: Sequence[Place] | None) -> str:
    """What differs first; '' where nothing does but the order, or the last places, of equal scores."""
    if written is None:
        return "has no list"
    if anew is None:
        return "has a list, and is nobody to score"
    if len(written) != len(anew):
        return f"{len(written)} items, scored anew {len(anew)}"
    by_item = {item: (score, source) for item, score, source in anew}
    last = anew[-1][1] if anew else 0.0
    for rank, (place, other) in enumerate(zip(written, anew, strict=True), start=1):
        item, score, source = place
        same = by_item.get(item, (last, source))
        if not (_near(score, other[1]) and _near(score, same[0]) and source == same[1]):
            return f"rank {rank} is {_said(place)}, scored anew {_said(other)}"
    return ""


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one), abs(other))


def _said(place: Place) -> str:
    return f"{place[0]!r} {place[1]:.9g} {place[2]}"
