"""When items are taken again: what each item's re-order intervals are, and who is due.

The model is a mixture of those who come back for an item and those who do not, the days between log-normal (a mixture
cure model: Farewell, Biometrics 38, 1982).

Shape suffixes: T events, P pairs of a user and an item, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.stats import norm

from recsys.candidates.blocks import Batches, Floats, Ints, flat
from recsys.config.shop import ShopConfig
from recsys.contracts import REORDER_INTERVALS
from recsys.lake import apply_contract
from recsys.lake.as_of import numbers

SAME_VISIT_DAYS = 0.5
"""Lines of one item closer than this are one purchase."""
MIN_SPREAD = 0.1
"""Of log intervals: nobody shops by the clock, however even the few gaps that were seen."""
HORIZON_DAYS = 28.0
"""Due is who comes back within so many days."""
LEAN = 5.0
"""An item's figures lean on the shop's as if it had so many purchases like those of the whole shop; a user's own lean
on the item's in the same way."""
STEP = 2.0**-20
"""Logarithms are summed in such steps: sums of whole numbers do not depend on who was added first."""


@dataclass(frozen=True)
class Pairs:
    """Who had which item, and when; by user and item."""

    users: Ints
    item_nums: Ints
    last: Ints
    """(P,) the place of the last purchase among the T."""
    newest: Floats
    """(P,) its day."""
    gaps: Floats
    """(P,) how many times it was taken again."""
    log_gaps: Floats
    """(P,) the sum of the logarithms of the days between."""
    squares: Floats
    """(P,) the sum of their squares."""


def pairs_of(users: NDArray[Any], item_nums: NDArray[Any], days: NDArray[Any]) -> Pairs:
    """Of T purchases; ``days`` grow with time, from any day on."""
    order = np.lexsort((days, item_nums, users))
    users, items = users[order].astype(np.int64), item_nums[order].astype(np.int64)
    when = days[order].astype(np.float64)
    starts, ends = np.ones((2, len(order)), dtype=bool)
    starts[1:] = ends[:-1] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    pair = np.cumsum(starts) - 1
    between = np.diff(when, prepend=0.0)
    again = ~starts & (between > SAME_VISIT_DAYS)
    logs = np.log(between[again])
    count = int(starts.sum())

    def summed(values: Floats) -> Floats:
        return np.bincount(pair[again], weights=values, minlength=count).astype(np.float64)

    return Pairs(
        users=users[starts],
        item_nums=items[starts],
        last=order[ends],
        newest=when[ends],
        gaps=summed(np.ones_like(logs)),
        log_gaps=summed(logs),
        squares=summed(logs**2),
    )


@dataclass(frozen=True)
class Sums:
    """What an item's intervals are worked out from; (N,) each."""

    pairs: Floats
    gaps: Floats
    log_gaps: Floats
    squares: Floats

    @classmethod
    def of(cls, pairs: Pairs, width: int) -> Sums:
        def by_item(values: Floats | None) -> Floats:
            found = np.bincount(pairs.item_nums, weights=values, minlength=width)
            return found.astype(np.float64)

        return cls(
            by_item(None), by_item(pairs.gaps), by_item(pairs.log_gaps), by_item(pairs.squares)
        )


@dataclass(frozen=True)
class Reorders:
    """Of every item, by number; (N,) each."""

    again: Floats
    """The part of its purchases after which the same user took it again, 0 to 1."""
    log_days: Floats
    """The mean logarithm of the days between; e to its power is the median interval."""
    spread: Floats
    """The standard deviation of that logarithm."""

    @classmethod
    def of(cls, sums: Sums, *, lean: float = LEAN, horizon_days: float = HORIZON_DAYS) -> Reorders:
        """``horizon_days`` is the median interval of a shop where nobody has come back yet."""
        bought, whole = sums.pairs + sums.gaps, sums.gaps.sum()
        shop_again = whole / max(bought.sum(), 1.0)
        shop_mean = sums.log_gaps.sum() / whole if whole else np.log(horizon_days)
        shop_variance = sums.squares.sum() / whole - shop_mean**2 if whole else 1.0
        log_days = (sums.log_gaps + lean * shop_mean) / (sums.gaps + lean)
        around = sums.squares - 2 * log_days * sums.log_gaps + sums.gaps * log_days**2
        variance = (around + lean * shop_variance) / (sums.gaps + lean)
        return cls(
            again=(sums.gaps + lean * shop_again) / (bought + lean),
            log_days=log_days,
            spread=np.maximum(np.sqrt(np.maximum(variance, 0.0)), MIN_SPREAD),
        )

    def chances(
        self, pairs: Pairs, *, today: float, lean: float = LEAN, horizon_days: float = HORIZON_DAYS
    ) -> Floats:
        """(P,) The chance that the user takes the item within ``horizon_days`` from ``today`` on, given that they have
        not by then: ``r (F(t + h) - F(t)) / (1 - r F(t))``, where r is the chance to take it again at all, t the days
        since the last purchase, and F log-normal."""
        items = pairs.item_nums
        again = (lean * self.again[items] + pairs.gaps) / (lean + pairs.gaps + 1)
        log_days = (lean * self.log_days[items] + pairs.log_gaps) / (lean + pairs.gaps)
        since = np.maximum(today - pairs.newest, SAME_VISIT_DAYS)

        def come_by(days: Floats) -> Floats:
            found: Floats = norm.cdf((np.log(days) - log_days) / self.spread[items])
            return found

        before = come_by(since)
        due: Floats = again * (come_by(since + horizon_days) - before) / (1 - again * before)
        return due


def reorder_intervals(
    histories: DataFrame, vocabulary: DataFrame, *, as_of: date, shop: ShopConfig
) -> DataFrame:
    """Each item's part and interval of repeats, from the target events in the histories of ``as_of``.

    Users who are capped do not count. An item that nobody had has no row.
    """
    targets = pa.array(shop.event_types("target"))

    def partial(batches: Batches) -> Batches:
        for batch in batches:
            nums, users = flat(batch.column("item_nums"))
            days = -batch.column("ages_days").flatten().to_numpy().astype(np.float64)
            types = batch.column("event_types").flatten()
            counts = pc.is_in(types, value_set=targets).to_numpy(zero_copy_only=False)
            counts &= nums > 0
            pairs = pairs_of(users[counts], nums[counts], days[counts])
            logs, squares = np.rint(pairs.log_gaps / STEP), np.rint(pairs.squares / STEP)
            columns = [
                pa.array(pairs.item_nums, pa.int32()),
                *(pa.array(values.astype(np.int64)) for values in (pairs.gaps, logs, squares)),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["item_num", "gaps", "logs", "squares"])

    summed = (
        histories.where(~F.col("is_capped"))
        .select("item_nums", "ages_days", "event_types")
        .mapInArrow(partial, "item_num int, gaps bigint, logs bigint, squares bigint")
        .groupBy("item_num")
        .agg(
            F.count(F.lit(1)).alias("num_users"),
            *(F.sum(name).alias(name) for name in ("gaps", "logs", "squares")),
        )
        .orderBy("item_num")
        .toArrow()
    )
    pairs, gaps, logs, squares = (
        summed.column(name).to_numpy().astype(np.float64)
        for name in ("num_users", "gaps", "logs", "squares")
    )
    found = Reorders.of(Sums(pairs, gaps, logs * STEP, squares * STEP))
    made = summed.select(["item_num", "num_users"])
    for name, values in (
        ("num_again", gaps.astype(np.int64)),
        ("share_again", found.again),
        ("median_days", np.exp(found.log_days)),
        ("log_spread", found.spread),
    ):
        made = made.append_column(name, pa.array(values))
    rows = histories.sparkSession.createDataFrame(made)
    named = rows.join(F.broadcast(numbers(vocabulary, "item")), "item_num")
    return apply_contract(named.withColumn("as_of", F.lit(as_of)), REORDER_INTERVALS)
