"""Pairs as single numbers, to be looked for in one another."""

from __future__ import annotations

from torch import Tensor


def pairs(of: Tensor, item_nums: Tensor) -> Tensor:
    """One int64 for each of ``of`` (a user, a place; 0 and more) and its item; item numbers are below 2^31."""
    return (of << 31) | item_nums
