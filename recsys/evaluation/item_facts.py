"""What is known of the items as of a cut-off, by number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys import contracts
from recsys.lake import Lake
from recsys.lake.as_of import known_before
from recsys.scoring.kit import Kit


@dataclass(frozen=True)
class ItemFacts:
    """Arrays and lists have a place per item number; 0 is padding."""

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    """The id where no title is known."""
    num_buyers_N: NDArray[np.int64]
    """In the popularity window."""
    price_N: NDArray[np.float64]
    """NaN where unknown."""


def item_facts(lake: Lake, kit: Kit) -> ItemFacts:
    """Of the kit's items, as the table items had them on its day."""
    rows = lake.read_or_empty(contracts.ITEMS).select(
        "item_id", "valid_from", "source", "source_file", "title",
        F.col("price").cast("double").alias("price"),
    )  # fmt: skip
    known = known_before(rows, "item_id", kit.as_of).toArrow()
    found = known.take(pc.index_in(kit.item_ids, value_set=known.column("item_id")))
    titles = pc.coalesce(found.column("title"), pa.chunked_array([kit.item_ids]))
    return ItemFacts(
        tuple(kit.item_ids.to_pylist()),
        tuple(titles.to_pylist()),
        kit.buyers[[0]].toarray()[0].astype(np.int64),
        found.column("price").to_numpy(zero_copy_only=False).astype(np.float64),
    )
