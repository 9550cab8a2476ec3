"""The fields of the ranking model: its tables, and the rows that a user and a candidate ask for.

Training and scoring both come here for the numbers, so that they cannot differ. Only numpy: Spark's workers
score without torch. In every field 0 means unknown: a row of zeros that never learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.mixing import mix64
from recsys.models.affinity import AFFINITY_TABLE_ROWS, affinity_rows

# Shape suffixes in this file:
#   B users, each at a moment   H newest items of a history   M candidates of each user
#   I item numbers, 0 included   U user numbers, 0 included
Ints = NDArray[np.int64]
Ages = NDArray[np.float32]

HISTORY = "history"
USER_FIELDS = ("user", HISTORY, "segment", "hour", "weekday")
CANDIDATE_FIELDS = (
    "item", "category", "price_bucket", "segment_category", "weekday_category", "last_item_item",
    *AFFINITY_TABLE_ROWS,
)  # fmt: skip
FIELDS = USER_FIELDS + CANDIDATE_FIELDS
"""A table each. ``history`` has its own, not the items': to have been bought and to be offered are two things."""

FIELDS_VERSION = 1
"""Of what the numbers mean: the fields and their order, bucket edges, what is counted, the hash of crosses.

Raised with every change of these. A model of another version is refused and trained again: its rows would be read
as what they are not.
"""

HOURS, WEEKDAYS, PRICE_BUCKETS = 24, 7, 10


@dataclass(frozen=True)
class Attributes:
    """What is known of items and users by number, as of the day that a model was fitted for."""

    segment_num_U: NDArray[np.int32]
    category_num_I: NDArray[np.int32]
    price_bucket_I: NDArray[np.int32]
    """1 to PRICE_BUCKETS."""
    num_events_I: NDArray[np.int64]
    """Events of the item, of every type, in the histories that training reads."""
    is_cut_U: NDArray[np.bool_]
    """The user's history is as long as histories may be: what was before its first event is not known."""
    segments: tuple[str, ...]
    """Name of segment 1, 2, …"""
    categories: tuple[str, ...]

    @property
    def num_items(self) -> int:
        return len(self.category_num_I) - 1

    @property
    def num_users(self) -> int:
        return len(self.segment_num_U) - 1

    def known_items(self, item_nums: Ints) -> Ints:
        """0 in place of an item that is newer than the model."""
        return np.where(item_nums > self.num_items, 0, item_nums)

    def table_rows(self, cross_rows: int) -> dict[str, int]:
        """Rows of each field's table, 0 included."""
        segments, categories, items = len(self.segments), len(self.categories), self.num_items
        return {
            "user": self.num_users + 1,
            HISTORY: items + 1,
            "segment": segments + 1,
            "hour": HOURS + 1,
            "weekday": WEEKDAYS + 1,
            "item": items + 1,
            "category": categories + 1,
            "price_bucket": PRICE_BUCKETS + 1,
            "segment_category": rows_of_cross((segments, categories), cross_rows),
            "weekday_category": rows_of_cross((WEEKDAYS, categories), cross_rows),
            "last_item_item": rows_of_cross((items, items), cross_rows),
            **AFFINITY_TABLE_ROWS,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As an npz file holds them; ``of`` reads them back. No objects: nothing is unpickled."""
        return {
            "segment_num_U": self.segment_num_U,
            "category_num_I": self.category_num_I,
            "price_bucket_I": self.price_bucket_I,
            "num_events_I": self.num_events_I,
            "is_cut_U": self.is_cut_U,
            "segments": np.array(self.segments, dtype=np.str_),
            "categories": np.array(self.categories, dtype=np.str_),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Attributes:
        """Raises ContractError where an array is missing, or two disagree about how many there are."""
        names = list(cls.__dataclass_fields__)
        if missing := [name for name in names if name not in arrays]:
            raise ContractError(f"attributes have no {', '.join(missing)}: run train again")
        values: dict[str, Any] = {name: arrays[name] for name in names}
        for name in ("segments", "categories"):
            values[name] = tuple(arrays[name].tolist())
        found = cls(**values)
        of_items = (found.category_num_I, found.price_bucket_I, found.num_events_I)
        of_users = (found.segment_num_U, found.is_cut_U)
        for kind, arrays_of_kind in (("items", of_items), ("users", of_users)):
            if len(lengths := {len(array) for array in arrays_of_kind}) > 1:
                raise ContractError(
                    f"attributes of {sorted(lengths)} {kind} in one file: run train again"
                )
        return found


class Moments(NamedTuple):
    """B users, each at a moment: what is known then."""

    user_num_B: Ints
    segment_num_B: Ints
    history_BH: Ints
    """Newest last, 0 before the first."""
    days_BH: Ages
    """How long before the newest event each was."""
    hour_B: Ints
    """1 to 24: the hour of the newest event, + 1."""
    weekday_B: Ints
    """1 is Monday."""

    @property
    def last_item_B(self) -> Ints:
        return self.history_BH[:, -1]

    def at(self, rows: Any) -> Moments:
        """The moments that ``rows`` pick."""
        return Moments(*(column[rows] for column in self))


def events_known(max_length: int) -> int:
    """How many of a user's newest events the model looks at, where examples have ``max_length`` of them to read.

    Half of them: a history is cut into windows of ``max_length`` events beside the one that they share, so every
    later half of a window knows as many events before it, and what training counts in a history is what scoring
    will count. With all of them a place in the middle of a window would have to pass for a user who has been there
    for half as long, and a purchase that was one of many for the first.
    """
    return max(1, max_length // 2)


def moments_of(
    attributes: Attributes, user_num_B: Ints, history_BH: Ints, ages_BH: Ages, as_of: date
) -> Moments:
    """Users at the newest event of ``history_BH``, as a model of ``attributes`` knows them.

    Users and items that are newer than the model are unknown: 0. A user's segment is the one that training saw.

    Args:
        history_BH: newest last, 0 before the first event.
        ages_BH: days before ``as_of`` begins; below 0 for events since then.
    """
    known_B = np.where(user_num_B > attributes.num_users, 0, user_num_B)
    newest_age_B = ages_BH[:, -1]
    hour_B, weekday_B = clock(newest_age_B, as_of, real_B=history_BH[:, -1] > 0)
    return Moments(
        known_B,
        attributes.segment_num_U[known_B].astype(np.int64),
        attributes.known_items(history_BH),
        np.maximum(ages_BH - newest_age_B[:, None], 0).astype(np.float32),
        hour_B,
        weekday_B,
    )


def clock(ages_days_B: Ages, as_of: date, *, real_B: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Hour and weekday, from 1, of events so many days before ``as_of`` begins in the shop's zone; 0 where not real.

    The age is below 0 for an event since then: between two full runs the clock stands still (docs/adr/0013). Days are
    counted as 24 hours: every event on the other side of the last clock change is off by one hour.
    """
    ages = np.asarray(ages_days_B, dtype=np.float64)
    days = np.ceil(ages)
    hour = np.minimum(np.floor((days - ages) * HOURS), HOURS - 1) + 1
    weekday = (as_of.weekday() - days) % WEEKDAYS + 1
    return np.where(real_B, hour, 0).astype(np.int64), np.where(real_B, weekday, 0).astype(np.int64)


def numbers_of(names: Sequence[str], values: Sequence[str | None]) -> NDArray[np.int32]:
    """The number of each value among ``names``, from 1; 0 for None and for what is not there."""
    number = {name: place for place, name in enumerate(names, 1)}
    return np.array([number.get(value, 0) if value else 0 for value in values], dtype=np.int32)


def price_buckets(edges: NDArray[np.float64], prices: NDArray[np.float64]) -> NDArray[np.int32]:
    """1 + the number of ``edges``, which ascend, that are not above the price; 0 for NaN."""
    buckets = 1 + np.searchsorted(edges, prices, side="right")
    return np.where(np.isnan(prices), 0, buckets).astype(np.int32)


def user_rows(moments: Moments, *, history_bag: int) -> dict[str, Ints]:
    """By user field, the rows to look up: (B,), for the history (B, history_bag), whose rows but 0 are averaged."""
    return {
        "user": moments.user_num_B,
        HISTORY: moments.history_BH[:, -history_bag:],
        "segment": moments.segment_num_B,
        "hour": moments.hour_B,
        "weekday": moments.weekday_B,
    }


def candidate_rows(
    attributes: Attributes, moments: Moments, item_nums_BM: Ints, *, cross_rows: int
) -> dict[str, Ints]:
    """By candidate field, the rows to look up, (B, M)."""
    category_BM = attributes.category_num_I[item_nums_BM].astype(np.int64)
    segment_B1, weekday_B1 = moments.segment_num_B[:, None], moments.weekday_B[:, None]
    segments, categories, items = (
        len(attributes.segments), len(attributes.categories), attributes.num_items,
    )  # fmt: skip
    return {
        "item": item_nums_BM,
        "category": category_BM,
        "price_bucket": attributes.price_bucket_I[item_nums_BM].astype(np.int64),
        "segment_category": crossed(segment_B1, category_BM, (segments, categories), cross_rows),
        "weekday_category": crossed(weekday_B1, category_BM, (WEEKDAYS, categories), cross_rows),
        "last_item_item": crossed(
            moments.last_item_B[:, None], item_nums_BM, (items, items), cross_rows
        ),
        **affinity_rows(
            attributes.category_num_I, moments.history_BH, moments.days_BH, item_nums_BM
        ),
    }


def candidate_numbers(
    attributes: Attributes, item_nums_BM: Ints, *, first_is_counted: bool = False
) -> NDArray[np.float32]:
    """(B, M, 1): log1p of the item's events.

    ``first_is_counted``: the event that made candidate 0 of each row a positive is among them, as in training, and
    is left out: else no positive would ever have a count of 0, and a rare item's count would tell that it is one.
    """
    counts_BM = attributes.num_events_I[item_nums_BM]
    if first_is_counted:
        counts_BM[:, :1] = np.maximum(counts_BM[:, :1] - 1, 0)
    return np.asarray(np.log1p(counts_BM), dtype=np.float32)[..., None]


def rows_of_cross(sizes: tuple[int, int], cross_rows: int) -> int:
    """One for every pair of numbers from 1 to ``sizes``, and row 0; no more than ``cross_rows``."""
    return min(cross_rows, sizes[0] * sizes[1] + 1)


def crossed(first: Ints, second: Ints, sizes: tuple[int, int], cross_rows: int) -> Ints:
    """The row of a pair of numbers, broadcast; 0 where either is 0.

    Where every pair has a row of its own it is addressed directly. Else pairs share the rows from 1 on: a pair
    has 1 + mix(first * 2^32 + second) mod (cross_rows - 1), where mix is the finaliser of splitmix64 (Steele,
    Lea and Flood 2014), in arithmetic modulo 2^64.
    """
    if rows_of_cross(sizes, cross_rows) == sizes[0] * sizes[1] + 1:
        row = (first - 1) * sizes[1] + second
    else:
        mixed = mix64((first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64))
        row = 1 + (mixed % np.uint64(cross_rows - 1)).astype(np.int64)
    return np.where((first > 0) & (second > 0), row, 0)
