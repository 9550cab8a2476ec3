"""A day's events as the text rows of a file, with the dirty rows that are planted among them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config.sections import GenerateShopConfig
from recsys.shop_generator.days import TYPE_NAMES, Events
from recsys.shop_generator.world import SEGMENTS, World

COLUMNS = ("event_time", "visit", "user", "region", "event", "item", "quantity", "unit_price")
UNKNOWN_TYPE = "wishlist"
_SECONDS = pa.array([f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(86400)])


class RowWriter:
    """Turns numbers into names; made once per shop."""

    def __init__(self, config: GenerateShopConfig, world: World) -> None:
        self.config = config
        self.users = pa.array(user_names(config))
        self.items = pa.array(item_names(config))
        self.regions = pa.array([SEGMENTS[s] for s in world.segment_of_user])
        self.prices = pa.array([f"{p // 100}.{p % 100:02}" for p in world.price_pence])

    def rows(self, events: Events, number: int, day: date) -> tuple[pa.Table, dict[str, int]]:
        """The day's rows by time, dirty ones included, and how many there are of each dirty kind."""
        sound = self._table(events, number, day)
        rng = np.random.default_rng([self.config.seed, 2, number])
        parts, order = [sound], [np.arange(len(events))]
        planted: dict[str, int] = {}
        for kind, share in self.config.dirty_shares.items():
            count = min(len(events), int(rng.binomial(len(events), share)))
            chosen = np.sort(rng.choice(len(events), count, replace=False))
            parts.append(soil(kind, sound.take(pa.array(chosen))))
            order.append(chosen)
            planted[kind] = count
        # Stable: a dirty row follows the sound one it was made of, so a repeat is the later of the two.
        by_time = np.argsort(np.concatenate(order), kind="stable")
        return pa.concat_tables(parts).take(pa.array(by_time)), planted

    def _table(self, events: Events, number: int, day: date) -> pa.Table:
        seconds = _SECONDS.take(pa.array(events.second))
        visit = pa.array(events.visit).cast(pa.string())
        quantity = pa.array(events.quantity, mask=events.quantity == 0).cast(pa.string())
        values = [
            pc.binary_join_element_wise(str(day), seconds, " "),
            pc.binary_join_element_wise(f"{number}", visit, "/"),
            self.users.take(pa.array(events.user)),
            self.regions.take(pa.array(events.user)),
            pa.array(TYPE_NAMES).take(pa.array(events.type)),
            self.items.take(pa.array(events.item)),
            quantity,
            self.prices.take(pa.array(events.item)),
        ]
        return pa.table(dict(zip(COLUMNS, values, strict=True)))


def soil(kind: str, rows: pa.Table) -> pa.Table:
    """Spoil every row of ``rows`` in the way of ``kind``; no two of them become equal."""
    if kind == "duplicate_row":
        return rows
    if kind == "bad_timestamp":
        column, spoilt = "event_time", pc.binary_join_element_wise("at", rows["event_time"], " ")
    elif kind == "missing_item":
        column, spoilt = "item", pa.nulls(rows.num_rows, pa.string())
    elif kind == "unknown_type":
        column, spoilt = "event", pa.array([UNKNOWN_TYPE] * rows.num_rows, pa.string())
    elif kind == "negative_price":
        column, spoilt = "unit_price", pc.binary_join_element_wise("", rows["unit_price"], "-")
    else:
        raise ValueError(f"no such dirt: {kind!r}")
    return rows.set_column(rows.schema.get_field_index(column), column, spoilt)


def user_names(config: GenerateShopConfig) -> list[str]:
    width = len(str(config.users))
    return [f"u{n:0{width}}" for n in range(1, config.users + 1)]


def item_names(config: GenerateShopConfig) -> list[str]:
    width = len(str(config.items))
    return [f"i{n:0{width}}" for n in range(1, config.items + 1)]
