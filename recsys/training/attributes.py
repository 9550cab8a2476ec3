"""What the ranking model is told of items and users by number: one file per as_of, written by the driver."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.contracts import HISTORIES, ITEM_FEATURES, ITEMS, USERS
from recsys.errors import MissingInput
from recsys.lake import Lake, local_rows
from recsys.lake.as_of import known_before, numbers
from recsys.models.ranking_fields import PRICE_BUCKETS, Attributes, numbers_of, price_buckets
from recsys.training.checkpoint import write_arrays


def write_attributes(lake: Lake, as_of: date, path: Path, *, max_history: int) -> Attributes:
    """Write the attributes as of a day as npz; ``Attributes.of`` reads them back.

    Histories and item features of that day are there: ``prepare`` has looked.

    Raises:
        MissingInput: no vocabulary of that day.
    """
    attributes = read_attributes(lake, as_of, max_history=max_history)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, attributes.arrays())
    return attributes


def read_attributes(lake: Lake, as_of: date, *, max_history: int) -> Attributes:
    """From the tables. What comes to the driver has a row per item, or three numbers per user.

    The price is that of ``item_features``: the catalogue's, or the last one paid. Prices are cut into ten
    buckets of equally many items. An item is counted as often as it stands in a history that training reads.
    ``max_history`` is features.max_history: a history of so many events was cut.
    """
    vocabulary = lake.vocabulary(as_of)
    item_nums, user_nums = numbers(vocabulary, "item"), numbers(vocabulary, "user")
    items = _items(lake, item_nums, as_of).toArrow()
    users = _users(lake, user_nums, as_of, max_history)
    if not items.num_rows:
        raise MissingInput(f"no item vocabulary of {as_of}: run build_features first")
    item_num = _numbers(items, "item_num")
    width = int(item_num.max()) + 1
    prices = items.column("price").to_numpy(zero_copy_only=False).astype(np.float64)
    categories = _names(items, "category")
    segments = _names(users.select("segment").distinct().toArrow(), "segment")
    of_users = users.join(F.broadcast(_numbered(lake, segments)), "segment", "left").select(
        "user_num", F.coalesce("segment_num", F.lit(0)).alias("segment_num"), "is_cut"
    )
    known_users = of_users.toArrow()
    user_num = _numbers(known_users, "user_num")
    num_rows = int(user_num.max(initial=0)) + 1
    segment_nums = _numbers(known_users, "segment_num").astype(np.int32)
    is_cut = _numbers(known_users, "is_cut").astype(np.bool_)
    category_nums = numbers_of(categories, items.column("category").to_pylist())
    return Attributes(
        segment_num_U=_placed(user_num, segment_nums, num_rows),
        category_num_I=_placed(item_num, category_nums, width),
        price_bucket_I=_placed(item_num, price_buckets(_edges(prices), prices), width),
        num_events_I=_placed(item_num, _numbers(items, "count"), width),
        is_cut_U=_placed(user_num, is_cut, num_rows),
        segments=segments,
        categories=categories,
    )


def _items(lake: Lake, item_nums: DataFrame, as_of: date) -> DataFrame:
    """(item_num, category, price, count) of the whole vocabulary."""
    category = known_before(lake.read_or_empty(ITEMS), "item_id", as_of).select(
        "item_id", "category"
    )
    price = lake.read(ITEM_FEATURES, as_of=as_of).select(
        "item_id", F.col("price").cast("double").alias("price")
    )
    counts = (
        lake.read(HISTORIES, as_of=as_of)
        .where(~F.col("is_capped") & (F.size("item_nums") > 1))
        .select(F.explode("item_nums").alias("item_num"))
        .groupBy("item_num")
        .count()
    )
    return (
        item_nums.join(category, "item_id", "left")
        .join(price, "item_id", "left")
        .join(counts, "item_num", "left")
        .select("item_num", "category", "price", F.coalesce("count", F.lit(0)).alias("count"))
    )


def _users(lake: Lake, user_nums: DataFrame, as_of: date, max_history: int) -> DataFrame:
    """(user_num, segment, is_cut) of the whole vocabulary."""
    known = known_before(lake.read_or_empty(USERS), "user_id", as_of).select("user_id", "segment")
    is_cut = F.size("item_nums") >= max_history
    cut = lake.read(HISTORIES, as_of=as_of).select("user_id", is_cut.alias("is_cut"))
    return (
        user_nums.join(known, "user_id", "left")
        .join(cut, "user_id", "left")
        .select("user_num", "segment", F.coalesce("is_cut", F.lit(False)).alias("is_cut"))
    )


def _numbered(lake: Lake, names: tuple[str, ...]) -> DataFrame:
    columns = T.StructType().add("segment", T.StringType()).add("segment_num", T.IntegerType())
    return local_rows(lake.spark, list(zip(names, range(1, len(names) + 1), strict=True)), columns)


def _names(table: pa.Table, column: str) -> tuple[str, ...]:
    return tuple(sorted({name for name in table.column(column).to_pylist() if name}))


def _edges(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between the buckets; fewer where many prices are equal."""
    known = prices[~np.isnan(prices)]
    if not len(known):
        return np.zeros(0)
    edges: NDArray[np.float64] = np.unique(
        np.quantile(known, np.arange(1, PRICE_BUCKETS) / PRICE_BUCKETS)
    )
    return edges


def _placed(numbers: NDArray[np.int64], values: NDArray[Any], width: int) -> NDArray[Any]:
    placed = np.zeros(width, dtype=values.dtype)
    placed[numbers] = values
    return placed


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).to_numpy(zero_copy_only=False).astype(np.int64)
    return values
