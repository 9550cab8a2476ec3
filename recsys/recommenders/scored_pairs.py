"""Scores that were made elsewhere: a Parquet of user_id, item_id, score.

Shape suffixes: B users, N catalogue (num_items + 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog
from scipy.sparse import csr_array

from recsys.errors import ContractError, MissingInput
from recsys.recommenders.shop import Scores, Shop, Users

log = structlog.get_logger()

COLUMNS = ("user_id", "item_id", "score")
MOST_NAMED = 5


def read_pairs(path: Path) -> pa.Table:
    """user_id and item_id as text, score float32; other columns are left out. A folder of Parquet files will do.

    Raises:
        MissingInput: no such file.
        ContractError: no Parquet, a column that is missing or of another type, a null, a score that is not finite, or
            a user and item twice; rows and keys are named.
    """
    if not path.exists():
        raise MissingInput(f"no file {path.absolute()}: give the full path of the scores")
    try:
        schema = pq.ParquetDataset(path).schema
        if lacking := [name for name in COLUMNS if name not in schema.names]:
            raise ContractError(
                f"{path} has no column {', '.join(lacking)}; it has {', '.join(schema.names)[:300]}, wanted are "
                f"{', '.join(COLUMNS)}"
            )
        found = pq.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise ContractError(f"{path} cannot be read as Parquet: {str(error)[:300]}") from None
    pairs = pa.table(
        {
            "user_id": _ids(path, "user_id", found),
            "item_id": _ids(path, "item_id", found),
            "score": _scores(path, found),
        }
    )
    _refuse_repeats(path, pairs)
    return pairs


class ScoredPairs:
    """Lists what the file has for a user, best score first; what it has not is in no list."""

    def __init__(self, pairs: csr_array) -> None:
        """``pairs``: (users + 1, N), by number."""
        self._pairs = pairs

    @classmethod
    def of(cls, pairs: pa.Table, user_ids: pa.StringArray, item_ids: pa.StringArray) -> Self:
        """``pairs`` of ``read_pairs`` by the numbers of a shop: ``user_ids`` from 1, ``item_ids`` with '' at 0.

        Raises:
            MissingInput: no pair is of a user and an item that the shop knows.
        """
        users = pc.index_in(pairs.column("user_id"), value_set=user_ids)
        items = pc.index_in(pairs.column("item_id"), value_set=item_ids)
        known = pc.and_(users.is_valid(), items.is_valid()).to_numpy()
        log.info(
            "scores_read", pairs=len(pairs), of_unknown_users=users.null_count, of_unknown_items=items.null_count,
            left_out=int((~known).sum()),
        )  # fmt: skip
        if not known.any():
            raise MissingInput(
                f"none of {len(pairs):,} scored pairs is of a user and an item that were known at the cut-off; users "
                f"there are such as {user_ids[:3].to_pylist()}, items such as {item_ids[1:4].to_pylist()}: give the "
                "ids of the tables events"
            )
        rows = users.fill_null(0).to_numpy()[known] + 1
        cells = rows, items.fill_null(0).to_numpy()[known]
        shape = (len(user_ids) + 1, len(item_ids))
        return cls(csr_array((pairs.column("score").to_numpy()[known], cells), shape=shape))

    def fit(self, shop: Shop) -> Self:
        """There is nothing left to learn."""
        return self

    def scores(self, users: Users) -> Scores:
        """(B, N); minus infinity for what the file has no score of."""
        mine = self._pairs[users.user_nums].tocoo()
        found: Scores = np.full(mine.shape, -np.inf, dtype=np.float32)
        found[mine.row, mine.col] = mine.data
        return found


def _ids(path: Path, name: str, found: pa.Table) -> pa.ChunkedArray:
    column = found.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    ):
        raise ContractError(f"{path}: {name} is {kind}, wanted is text, as in the table events")  # fmt: skip
    _refuse_rows(path, column.is_null(), f"{name} is null")
    return column.cast(kind).cast(pa.string())


def _scores(path: Path, found: pa.Table) -> pa.ChunkedArray:
    column = found.column("score")
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise ContractError(f"{path}: score is {kind}, wanted is a number")
    _refuse_rows(path, column.is_null(), "score is null")
    scores = column.cast(pa.float64()).cast(pa.float32(), safe=False)
    _refuse_rows(path, pc.invert(pc.is_finite(scores)), "score is no finite float32")
    return scores


def _refuse_rows(path: Path, wrong: pa.ChunkedArray, what: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        raise ContractError(
            f"{path}: {what} in {len(rows):,} of {len(wrong):,} rows, the first of them row {rows[0] + 1:,}; every "
            "pair needs a user, an item and a finite score"
        )


def _refuse_repeats(path: Path, pairs: pa.Table) -> None:
    counts = pairs.group_by(["user_id", "item_id"]).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts.column("count_all"), 1))
    if len(twice):
        named = twice.sort_by([("user_id", "ascending"), ("item_id", "ascending")])[:MOST_NAMED]
        keys = "; ".join(
            f"user {row['user_id']}, item {row['item_id']}: {row['count_all']} times"
            for row in named.to_pylist()
        )
        raise ContractError(
            f"{path}: {len(twice):,} pairs of a user and an item have several scores ({keys}); give each one"
        )
