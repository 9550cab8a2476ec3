"""Which items go together: cosine over units, with shrinkage."""

from __future__ import annotations

from datetime import date

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from recsys.candidates.blocks import CountBlock, Floats, Ints, ScoreRow, best_pairs
from recsys.candidates.naming import named_pairs, num_items
from recsys.contracts import ITEM_SIMILARITY


def item_similarity(
    sequences: DataFrame, vocabulary: DataFrame, *, as_of: date, shrinkage: float, neighbours: int
) -> DataFrame:
    """``co / (sqrt(n_i * n_j) + shrinkage)``: n_i units have item i, co have both; see ``sequences``.

    An item is not similar to itself. The best ``neighbours`` per item, ties to the smaller number.
    """
    baskets = sequences.select(F.array_distinct("item_nums").alias("item_nums"))
    width = num_items(vocabulary) + 1
    units_of = _units_of_items(baskets, width)
    pairs = best_pairs(
        baskets.where(F.size("item_nums") > 1),
        width=width,
        layers=1,
        neighbours=neighbours,
        count=count_together(width),
        score=_cosine(units_of, shrinkage),
    )
    return named_pairs(
        pairs, vocabulary, ITEM_SIMILARITY, as_of=as_of, other="similar_item", counted="num_users"
    )


def _units_of_items(baskets: DataFrame, width: int) -> Ints:
    """How many units have each item; as long as the catalogue."""
    units_of = np.zeros(width, dtype=np.int64)
    counted = (
        baskets.select(F.explode("item_nums").alias("item_num"))
        .groupBy("item_num")
        .count()
        .toArrow()
    )
    units_of[counted.column("item_num").to_numpy()] = counted.column("count").to_numpy()
    return units_of


def count_together(width: int) -> CountBlock:
    def count(nums: Ints, units: Ints, first: int, last: int) -> list[sparse.csr_matrix]:
        num_units = int(units[-1]) + 1
        ones = np.ones(len(nums), dtype=np.int64)
        has = sparse.csr_matrix((ones, (units, nums)), shape=(num_units, width))
        mine = (nums >= first) & (nums < last)
        has_mine = sparse.csr_matrix(
            (ones[mine], (nums[mine] - first, units[mine])), shape=(last - first, num_units)
        )
        return [has_mine @ has]

    return count


def _cosine(units_of: Ints, shrinkage: float) -> ScoreRow:
    def score(item_num: int, others: Ints, together: Ints) -> Floats:
        norms = np.sqrt((units_of[item_num] * units_of[others]).astype(np.float64))
        scores: Floats = together[0] / (norms + shrinkage)
        return scores

    return score
