"""Which recommenders the blend adds up, and which a benchmark of all of them asks."""

from __future__ import annotations

from recsys.recommenders.blend import Blend
from recsys.recommenders.named import SHIPPED, recommender

BLEND_PARTS = ("item_item", "user_user", "linear_items", "transformer")
"""What the shipped blend adds up."""


def everyone() -> tuple[str, ...]:
    """All that are shipped, the blend last."""
    return (*SHIPPED, Blend.name)


def checked_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, in this order.

    Raises:
        ConfigError: no such recommender; the message lists them.
    """
    for name in names:
        if name != Blend.name:
            recommender(name)
    return tuple(dict.fromkeys(names))
