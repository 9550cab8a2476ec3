"""Stage 1's rules: which items nobody may be shown, and which not the users of a segment.

Shape suffixes: S segments, N catalogue (num_items + 1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config.base import Config
from recsys.config.rules import (
    BLOCKED,
    BLOCKED_NOW,
    MIN_PRICE,
    OUT_OF_STOCK,
    Items,
    RulesConfig,
)

ATTRIBUTE_PREFIX = "attributes."
"""Of the columns of ``Facts`` that hold a key of the items' attributes."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Facts:
    """What is known of each item as of a day; a row per number, 0 (padding) first."""

    table: pa.Table
    """item_id (null where no item has the number), category, brand, price (float64), out_of_stock, and an
    ``attributes.KEY`` for each key that a rule names; null where unknown."""

    @property
    def is_item(self) -> Bools:
        return _bools(pc.is_valid(self.table["item_id"]))

    def has(self, column: str, values: Collection[str]) -> Bools:
        """Whether the column has one of the values."""
        return _bools(pc.is_in(self.table[column], value_set=pa.array(values, pa.string())))

    def values(self, column: str) -> set[str]:
        """The distinct values."""
        return set(pc.unique(self.table[column].combine_chunks()).to_pylist()) - {None}


@dataclass(frozen=True)
class Mask:
    """What one rule takes out of the catalogue."""

    rule: str
    segments: tuple[str, ...]
    """Whose; empty for everybody."""
    hidden_N: Bools
    definition: str
    """As conf says it, JSON."""
    threshold: float | None = None
    """The number in it, where it is one."""


def masks_of(rules: RulesConfig, facts: Facts, blocked_now: Collection[str]) -> tuple[Mask, ...]:
    """A mask for each rule in force, also for those that take nothing today."""
    masks = []

    def mask(rule: str, hidden_N: Bools, definition: Any, threshold: Decimal | None = None) -> None:
        number = None if threshold is None else float(threshold)
        masks.append(Mask(rule, (), hidden_N & facts.is_item, _json(definition), number))

    if rules.blocked_items:
        mask(BLOCKED, facts.has("item_id", rules.blocked_items), sorted(set(rules.blocked_items)))
    if blocked_now:
        mask(BLOCKED_NOW, facts.has("item_id", blocked_now), sorted(blocked_now))
    if rules.out_of_stock:
        mask(OUT_OF_STOCK, _bools(facts.table["out_of_stock"]), True)
    if rules.min_price:
        too_cheap = _bools(pc.less(facts.table["price"], float(rules.min_price)))
        mask(MIN_PRICE, too_cheap, str(rules.min_price), rules.min_price)
    for name, rule in rules.catalogue.items():
        fulfil = _fulfilling(rule.hide or rule.only or Items(), facts)
        hidden_N = (fulfil if rule.hide else ~fulfil) & facts.is_item
        masks.append(Mask(name, tuple(sorted(set(rule.segments))), hidden_N, _json(rule)))
    return tuple(masks)


def allowed_under(
    masks: Sequence[Mask],
    facts: Facts,
    segments: tuple[str, ...],
    leaves_nothing: Callable[[Mask, str, int], None],
) -> tuple[Bools, Bools | None]:
    """What everybody may be shown, and [segments, items] where some rule is for a segment alone.

    ``segments`` are the kit's and name every segment of a rule; the first, '', is the whole shop. A mask after
    which nothing would be left is handed to ``leaves_nothing`` with the segment and the number of items that
    it would take of those left; if that returns, the mask is not applied.
    """
    by_segment = any(mask.segments for mask in masks)
    allowed_SN = np.tile(facts.is_item, (len(segments) if by_segment else 1, 1))
    for mask in masks:
        rows = [segments.index(s) for s in mask.segments] or list(range(len(allowed_SN)))
        after_SN = allowed_SN[rows] & ~mask.hidden_N
        empty = np.flatnonzero(~after_SN.any(axis=1))
        if len(empty):
            row = rows[empty[0]]
            leaves_nothing(mask, segments[row], int(allowed_SN[row].sum()))
        else:
            allowed_SN[rows] = after_SN
    return allowed_SN[0].copy(), allowed_SN if by_segment else None


@dataclass(frozen=True)
class Unknown:
    """Names in a rule that nothing in the catalogue has."""

    rule: str
    key: str
    names: tuple[str, ...]


def unknown_names(
    rules: RulesConfig, facts: Facts, segments: Collection[str], blocked_now: Collection[str]
) -> Iterator[Unknown]:
    """What conf names and the shop does not know as of the day: catalogues change, and people mistype."""

    def missing(
        rule: str, key: str, names: Collection[str], known: Collection[str]
    ) -> Iterator[Unknown]:
        if lacking := tuple(sorted(set(names) - set(known))):
            yield Unknown(rule, key, lacking)

    ids = (
        facts.values("item_id") if rules.blocked_items or blocked_now or rules.catalogue else set()
    )
    yield from missing(BLOCKED, "blocked_items", rules.blocked_items, ids)
    yield from missing(BLOCKED_NOW, "item_id", blocked_now, ids)
    for name, rule in rules.catalogue.items():
        items = rule.hide or rule.only or Items()
        yield from missing(name, "segments", rule.segments, segments)
        yield from missing(name, "item_ids", items.item_ids, ids)
        if items.categories:
            paths = {above for path in facts.values("category") for above in _with_parents(path)}
            yield from missing(name, "categories", items.categories, paths)
        if items.brands:
            yield from missing(name, "brands", items.brands, facts.values("brand"))
        for key, values in items.attributes.items():
            known = facts.values(f"{ATTRIBUTE_PREFIX}{key}")
            yield from missing(name, f"attributes.{key}", values, known)


def _fulfilling(items: Items, facts: Facts) -> Bools:
    """The items that fulfil every key."""
    fulfil = facts.is_item
    if items.item_ids:
        fulfil &= facts.has("item_id", items.item_ids)
    if items.categories:
        wanted = set(items.categories)
        paths = [p for p in facts.values("category") if not wanted.isdisjoint(_with_parents(p))]
        fulfil &= facts.has("category", paths)
    if items.brands:
        fulfil &= facts.has("brand", items.brands)
    for key, values in items.attributes.items():
        fulfil &= facts.has(f"{ATTRIBUTE_PREFIX}{key}", values)
    prices = facts.table["price"]
    if items.price_below is not None:
        fulfil &= _bools(pc.less(prices, float(items.price_below)))
    if items.price_from is not None:
        fulfil &= _bools(pc.greater_equal(prices, float(items.price_from)))
    return fulfil


def _with_parents(path: str) -> list[str]:
    """Home > Cups: Home, and Home > Cups."""
    parts = path.split(" > ")
    return [" > ".join(parts[: n + 1]) for n in range(len(parts))]


def _bools(column: Any) -> Bools:
    """Null is False."""
    return np.asarray(pc.fill_null(column, False), dtype=np.bool_)


def _json(definition: Any) -> str:
    if isinstance(definition, Config):
        definition = definition.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(definition, ensure_ascii=False, sort_keys=True)
