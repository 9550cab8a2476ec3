"""Build a kit from the tables as of a day. Everything that is collected here is item-sized."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import MissingInput
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.scoring.kit import Kit

log = structlog.get_logger()


def build_kit(lake: Lake, config: RecsysConfig, as_of: date) -> Kit:
    """The catalogue, masks, item-item matrices and popularity as of ``as_of``, without models.

    Raises:
        MissingInput: the vocabulary of that day, or a table, is not there; the message names the job.
    """
    vocabulary = numbers(lake.vocabulary(as_of), "item").orderBy("item_num").toArrow()
    if not vocabulary.num_rows:
        raise MissingInput(
            f"no item vocabulary as of {as_of}: run build_features for that day first"
        )
    nums = _ints(vocabulary, "item_num")
    width = int(nums.max()) + 1
    ids = np.full(width, "", dtype=object)
    ids[nums] = vocabulary.column("item_id").to_numpy()

    known = known_before(lake.read_or_empty(contracts.ITEMS), "item_id", as_of)
    facts = known.select(
        "item_id", "category", (F.col("stock") == 0).alias("out_of_stock")
    ).toArrow()
    categories = np.full(width, -1, dtype=np.int32)
    allowed = ids != ""
    places = _places(facts.column("item_id").to_numpy(zero_copy_only=False), ids)
    inside = places > 0
    categories[places[inside]] = _codes(facts.column("category"))[inside]
    out_of_stock = facts.column("out_of_stock").combine_chunks().fill_null(False)
    allowed[places[inside & out_of_stock.to_numpy(zero_copy_only=False)]] = False
    blocked = _places(np.array(config.scoring.blocked_items, dtype=object), ids)
    for name, place in zip(config.scoring.blocked_items, blocked, strict=True):
        if not place:
            log.warning("blocked_item_unknown", item_id=name, as_of=str(as_of))
    allowed[blocked[blocked > 0]] = False

    buyers, segments = _buyers(lake.read(contracts.POPULARITY, as_of=as_of), width)
    return Kit(
        as_of=as_of,
        item_ids=pa.array(ids, pa.string()),
        allowed=allowed,
        categories=categories,
        buyers=buyers,
        segments=segments,
        similarity=_matrix(
            lake.read(contracts.ITEM_SIMILARITY, as_of=as_of), "similar_item_num", width
        ),
        transitions=_matrix(lake.read(contracts.TRANSITIONS, as_of=as_of), "next_item_num", width),
        prior_buyers=config.scoring.segment_prior_buyers,
    )


def _matrix(pairs: DataFrame, column: str, width: int) -> csr_array:
    """Row: item_num; column: the other item; entries ascend. Scores that are not above 0 say nothing."""
    found = pairs.where("score > 0").select("item_num", column, "score").toArrow()
    return _csr(
        _ints(found, "item_num"), _ints(found, column), _doubles(found, "score"), (width, width)
    )


def _buyers(popularity: DataFrame, width: int) -> tuple[csr_array, tuple[str, ...]]:
    """Buyers by segment and item; the whole shop ('') first, then the segments by name."""
    found = popularity.select(
        "segment", "item_num", F.coalesce("num_users", "score").alias("score")
    ).toArrow()
    names = found.column("segment").to_numpy(zero_copy_only=False)
    segments = ("", *sorted(set(names) - {""}))
    rows = (
        np.searchsorted(np.array(segments, dtype=object), names)
        if len(names)
        else np.zeros(0, np.int64)
    )
    shape = (len(segments), width)
    return _csr(rows, _ints(found, "item_num"), _doubles(found, "score"), shape), segments


def _csr(
    rows: NDArray[Any], columns: NDArray[Any], values: NDArray[np.float64], shape: tuple[int, int]
) -> csr_array:
    order = np.lexsort((columns, rows))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return csr_array(
        (values[order], columns[order].astype(np.int32), offsets.astype(np.int32)), shape=shape
    )


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).to_numpy(zero_copy_only=False).astype(np.int64)
    return values


def _doubles(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (
        table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    )
    return values


def _places(names: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.int64]:
    """The number of each name; 0 where unknown."""
    numbers = {name: num for num, name in enumerate(ids) if num}
    return np.array([numbers.get(name, 0) for name in names], dtype=np.int64)


def _codes(categories: pa.ChunkedArray) -> NDArray[np.int32]:
    """A number per distinct category, by name, so that nothing depends on the order of rows; -1 for null."""
    values = categories.to_numpy(zero_copy_only=False)
    named = sorted({value for value in values if value is not None})
    code = {name: number for number, name in enumerate(named)}
    return np.array([code.get(value, -1) for value in values], dtype=np.int32)
