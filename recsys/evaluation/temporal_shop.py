"""A shop as it was before a cut-off, and what its users took in the days after it, from the tables.

Numbers, histories and what is seen are made from the events by the same functions as the tables of that day, so any
day of the past can be a cut-off, whether something was built for it or not. It comes to the driver whole: what is
compared here is fitted in one process (ADR 15).

Shape suffixes: U users of the shop, B users measured, N catalogue (num_items + 1), S segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import MissingInput
from recsys.evaluation.item_words import attribute_matrix, words
from recsys.evaluation.splits import Targets, Window
from recsys.evaluation.targets import targets_of_window
from recsys.features.histories import histories
from recsys.features.seen import seen_items
from recsys.features.vocabularies import vocabularies
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.recommenders import Histories, Shop, Users
from recsys.recommenders.shop import Ints
from recsys.scoring.kit_tables import allowed_items, ids_by_number
from recsys.scoring.returned import returned_items
from recsys.scoring.users import flat_lists

Bools = NDArray[np.bool_]

HASHES = 2.0**64


@dataclass(frozen=True)
class TemporalShop:
    """What recommenders are fitted on, who is asked about, and what these users went on to take."""

    window: Window
    item_ids: pa.StringArray
    """(N,) by number; '' at 0."""
    user_ids: pa.StringArray
    """(U,) ascending; user number n of the shop is at place n - 1."""
    shop: Shop
    users: Users
    """Those with a history before the cut-off and a target after it."""
    targets: Targets
    first: Targets
    """Of the targets those that their user had never taken before."""
    hidden: Histories
    """(B) items that are not to be in a user's list: seen, where conf leaves these out, and lately returned."""
    allowed_SN: Bools
    """What users of a segment may be shown; a single row where no rule is for a segment alone."""

    def hidden_mask(self, start: int, stop: int) -> Bools:
        """(users, N): what the rules keep from the lists of the measured users ``start`` to ``stop``."""
        rows = np.arange(start, min(stop, len(self.users)), dtype=np.int64)
        segments = self.users.segments
        of_user = segments[rows] if segments is not None and len(self.allowed_SN) > 1 else 0 * rows
        mask: Bools = ~self.allowed_SN[of_user]
        hidden = self.hidden.take(rows)
        mask[hidden.rows, hidden.item_nums] = True
        return mask

    @property
    def cold_share(self) -> float:
        """The part of the targets that were not known at the cut-off: nobody can hit them."""
        return 1.0 - len(self.targets.item_nums) / max(int(self.targets.counts.sum()), 1)


def days_of_events(lake: Lake) -> tuple[date, date]:
    """The first and the last day of the table events.

    Raises:
        MissingInput: it is not there, or empty.
    """
    row = lake.read(contracts.EVENTS).agg(F.min("event_date"), F.max("event_date")).first()
    if row is None or row[0] is None:
        raise MissingInput("table events has no rows: run ingest first")
    return row[0], row[1]


def temporal_shop(
    lake: Lake, config: RecsysConfig, window: Window, *, sample: float = 1.0
) -> TemporalShop:
    """The shop before ``window.cut_off`` and the targets of ``window``.

    Users, history and targets are those of the nightly evaluation: at most ``features.max_history`` events of a user,
    ``evaluation.compare_users`` measured, those with the smallest hashes; capped users are measured and not learned
    from.
    ``sample``: the part of the measured users, by the same hash; all are fitted on.

    Raises:
        MissingInput: nobody has a history before the cut-off and a target after it, or there are no events.
    """
    as_of = window.cut_off
    vocabulary = vocabularies(
        lake.read(contracts.EVENTS), lake.read_or_empty(contracts.ITEMS),
        lake.read_or_empty(contracts.USERS), lake.read_or_empty(contracts.VOCABULARIES), as_of=as_of,
    ).persist()  # fmt: skip
    try:
        item_ids = ids_by_number(vocabulary)
        people = _people(lake, config, window, vocabulary).toArrow().sort_by("user_id")
    finally:
        vocabulary.unpersist()
    rows = sampled(
        people.column("sample_order").to_numpy(), _numbers(people, "num_targets") > 0,
        sample=sample, most=config.evaluation.compare_users,
    )  # fmt: skip
    if not len(rows):
        raise MissingInput(
            f"nobody to compare on: no user{' of the sample' if sample < 1 else ''} has a history before {as_of} and "
            f"a target in the {window.days} days from it on; check the run date and what ingest took in"
        )
    segments = _segments(people, config.rules.segments)
    allowed, segment_allowed = allowed_items(lake, config, item_ids, as_of, segments)
    shop = _shop(config, people, item_ids, _about_items(lake, item_ids, as_of), segments)
    measured = people.take(pa.array(rows))
    return TemporalShop(
        window=window, item_ids=item_ids, user_ids=people.column("user_id").combine_chunks(),
        shop=replace(shop, spark=lake.spark),
        users=Users(_histories(config, measured), rows + 1, None if shop.segments is None else shop.segments[rows]),
        targets=_targets(measured, "target_nums", "num_targets"),
        first=_targets(measured, "first_nums", "num_first"),
        hidden=Histories(*_lists(measured, "hidden_nums", np.int32)),
        allowed_SN=allowed[None] if segment_allowed is None else segment_allowed,
    )  # fmt: skip


def _people(lake: Lake, config: RecsysConfig, window: Window, vocabulary: DataFrame) -> DataFrame:
    """A row per user with a history, their targets beside it; null lists where there are none."""
    as_of = window.cut_off
    events = lake.read(contracts.EVENTS)
    known = histories(
        events, lake.read_or_empty(contracts.USERS), vocabulary, as_of=as_of, shop=config.shop,
        max_history=config.features.max_history,
        max_user_events_90d=config.candidates.max_user_events_90d,
    )  # fmt: skip
    targets = targets_of_window(
        events, numbers(vocabulary, "item"),
        cut_off=as_of, days=window.days, types=config.shop.event_types("target"),
    )  # fmt: skip
    people = known.join(targets, "user_id", "left")
    hidden = []
    if config.shop.exclude_seen:
        seen = seen_items(events, vocabulary, as_of=as_of, shop=config.shop)
        people = people.join(
            seen.select("user_id", F.col("item_nums").alias("seen")), "user_id", "left"
        )
        hidden.append("seen")
    if days := config.rules.returned_days:
        returned = returned_items(events, vocabulary, as_of=as_of, days=days)
        people = people.join(
            returned.withColumnRenamed("hidden_nums", "returned"), "user_id", "left"
        )
        hidden.append("returned")
    nothing = F.array().cast("array<int>")
    return people.select(
        "user_id", "segment", "item_nums", "event_types", "ages_days", "is_capped",
        "target_nums", "num_targets", "first_nums", "num_first",
        F.array_union(nothing, F.concat(nothing, *(F.coalesce(name, nothing) for name in hidden))).alias("hidden_nums"),
        F.xxhash64("user_id", F.lit(config.evaluation.seed)).alias("sample_order"),
    )  # fmt: skip


def sampled(order_U: Ints, has_target_U: Bools, *, sample: float, most: int) -> Ints:
    """Places, ascending, of users with a target: those with the smallest hashes, so a smaller sample is in a larger.

    ``order_U``: 64-bit hashes; ``sample``: the part of their range that is taken, and of that ``most`` at most.
    """
    rows = np.flatnonzero(has_target_U & (order_U < (sample - 0.5) * HASHES))
    return np.sort(rows[np.argsort(order_U[rows], kind="stable")][:most])


def _shop(
    config: RecsysConfig, people: pa.Table, item_ids: pa.StringArray, about: pa.Table, segments: tuple[str, ...]
) -> Shop:  # fmt: skip
    everyone = _histories(config, people)
    capped = people.column("is_capped").to_numpy(zero_copy_only=False)
    codes = pc.index_in(
        people.column("segment"), value_set=pa.array(segments, pa.string()), skip_nulls=True
    )
    words_of = {
        num: _attributes(row["title"], row["category"], row["brand"])
        for num, row in enumerate(about.to_pylist())
    }
    return Shop(
        num_items=len(item_ids) - 1,
        histories=everyone.where(~capped[everyone.rows]),
        as_of=0.0,
        attributes=attribute_matrix(words_of, len(item_ids) - 1),
        prices=about.column("price").fill_null(np.nan).to_numpy(),
        segments=codes.fill_null(0).to_numpy().astype(np.int64) if len(segments) > 1 else None,
        exclude_seen=config.shop.exclude_seen,
        seed=config.evaluation.seed,
        training=config.training,
    )


def _about_items(lake: Lake, item_ids: pa.StringArray, as_of: date) -> pa.Table:
    """title, category, brand and price of each number, as known before ``as_of``; null where nothing was said."""
    items = lake.read_or_empty(contracts.ITEMS).select(
        "item_id", "valid_from", "source", "source_file", "title", "category", "brand",
        F.col("price").cast("double").alias("price"),
    )  # fmt: skip
    known = known_before(items, "item_id", as_of).toArrow()
    rows = pc.index_in(item_ids, value_set=known.column("item_id"))
    return known.select(["title", "category", "brand", "price"]).take(rows)


def _attributes(title: str | None, category: str | None, brand: str | None) -> set[str]:
    """The words of the title, the brand, and the category with each one above it."""
    found = words("title", title or "")
    if brand:
        found.add(f"brand={brand}")
    levels = (category or "").split(" > ") if category else []
    return found | {f"category={' > '.join(levels[: n + 1])}" for n in range(len(levels))}


def _segments(people: pa.Table, of_rules: tuple[str, ...]) -> tuple[str, ...]:
    """'' first, then those that users have or rules name, ascending."""
    found = set(pc.unique(people.column("segment").combine_chunks()).to_pylist()) - {None, ""}
    return ("", *sorted(found | set(of_rules)))


def _histories(config: RecsysConfig, people: pa.Table) -> Histories:
    """Days are counted back from the cut-off, which is 0. What is history and no target (views) is told apart."""
    offsets, item_nums = _lists(people, "item_nums", np.int32)
    _, ages_days = _lists(people, "ages_days", np.float64)
    _, types = flat_lists(people.column("event_types").combine_chunks())
    targets = pa.array(config.shop.event_types("target"))
    is_target = pc.is_in(types, value_set=targets).to_numpy(zero_copy_only=False)
    return Histories(offsets, item_nums, -ages_days, None if is_target.all() else is_target)


def _targets(people: pa.Table, nums: str, count: str) -> Targets:
    offsets, item_nums = _lists(people, nums, np.int32)
    return Targets(offsets, item_nums, _numbers(people, count))


def _numbers(people: pa.Table, name: str) -> Ints:
    values: Ints = people.column(name).fill_null(0).to_numpy().astype(np.int64)
    return values


def _lists(people: pa.Table, name: str, dtype: Any) -> tuple[Ints, NDArray[Any]]:
    """Offsets and values; a null list is an empty one."""
    offsets, values = flat_lists(people.column(name).combine_chunks())
    return offsets, values.to_numpy(zero_copy_only=False).astype(dtype)
