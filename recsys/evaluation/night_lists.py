"""What the nights listed, as a contestant: the table top_n_lists of the day of the cut-off."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from recsys.contracts import TOP_N_LISTS
from recsys.errors import MissingInput
from recsys.lake import Lake, local_rows
from recsys.scoring.users import flat_lists

DAYS_NAMED = 10


def listed_pairs(lake: Lake, day: date, user_ids: pa.StringArray) -> pa.Table:
    """user_id, item_id, score of the lists as of ``day``, those of ``user_ids`` alone.

    A score here is 1 / place, so the order is that of the list, whatever made it.

    Raises:
        MissingInput: no list is as of that day; the days that have some are named.
    """
    lists = lake.read(TOP_N_LISTS)
    of_day = lists.where(F.col("as_of") == F.lit(day))
    if of_day.isEmpty():
        days = [str(row[0]) for row in lists.select("as_of").distinct().orderBy("as_of").collect()]
        raise MissingInput(
            f"table top_n_lists has no lists as of {day}, the day of the cut-off; its days are "
            f"{', '.join(days[-DAYS_NAMED:]) or 'none'}. Run that night first (./spark-submit.sh run_pipeline "
            f"--run-date {day}), or choose a --run-date whose cut-off is one of them"
        )
    asked = local_rows(lake.spark, ((user,) for user in user_ids.to_pylist()), "user_id string")
    found = of_day.join(F.broadcast(asked), "user_id", "left_semi").select("user_id", "item_ids").toArrow()  # fmt: skip
    offsets, item_ids = flat_lists(found.column("item_ids").combine_chunks())
    rows = np.repeat(np.arange(len(found)), np.diff(offsets))
    places = np.arange(len(rows)) - offsets[rows]
    return pa.table(
        {
            "user_id": found.column("user_id").take(pa.array(rows)),
            "item_id": item_ids,
            "score": (1.0 / (places + 1)).astype(np.float32),
        }
    )
