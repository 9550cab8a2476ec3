"""Every recommender on a window: lists, figures and their sums on Spark; to the driver come the sums of all users.

Shape suffixes: U users, T kinds of targets, K list places, N catalogue (num_items + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys.evaluation.block import Block, People, values_of_lists
from recsys.evaluation.catalogue import Catalogue
from recsys.evaluation.measured import Measured
from recsys.evaluation.pieces import PIECES, WHOLE, added_up, measured_of, pieces
from recsys.evaluation.tally import Plan, Tally
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import ScoringTask, in_partitions
from recsys.scoring.users import UserBatch, batch_from_arrow

USERS_AT_ONCE = 1024
"""Users whose figures are added up together: how often 1,000 resamples have each of them is 8 MB."""


def measure(
    users: DataFrame, task: ScoringTask, kit: Kit, entries: tuple[Entry, ...], plan: Plan, *,
    window: str, catalogue_of: Callable[[Kit], Catalogue], partitions: int,
) -> Measured:  # fmt: skip
    """Score ``users`` (``targets.measured_users``) by every entry, through the published path.

    ``kit`` is the task's. But for a few users to look at, nobody's own figures leave the worker that made them.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = task.scorer()
        catalogue = catalogue_of(scorer.kit)
        tally = Tally(plan, width=scorer.kit.width)
        for batch in batches:
            for start in range(0, batch.num_rows, USERS_AT_ONCE):
                some = batch.slice(start, USERS_AT_ONCE)
                everyone = batch_from_arrow(some, task.signals, scorer.kit.segments)
                found = scorer.lists_by_entry(everyone, entries, max(plan.ks))
                lists = {
                    one.recipe.name: of_one for one, of_one in zip(entries, found, strict=True)
                }
                tally.add(block_of(lists, some, everyone, catalogue, plan.ks))
        yield from pieces(tally)

    allowed_N = kit.allowed

    def add_up(table: pa.Table) -> pa.Table:
        return added_up(table, allowed_N, plan.ks)

    scored = in_partitions(users, partitions).mapInArrow(score, PIECES)
    whole = scored.groupBy("recommender", "piece").applyInArrow(add_up, WHOLE).toArrow()
    names = [one.recipe.name for one in entries]
    return measured_of(whole, names, allowed_N, plan=plan, window=window, cut_off=kit.as_of)


def block_of(
    lists: Mapping[str, Lists], batch: pa.RecordBatch, users: UserBatch, catalogue: Catalogue, ks: tuple[int, ...]
) -> Block:  # fmt: skip
    """What everybody's lists are worth to the users of ``batch``, which ``users`` was made from."""
    people = People.of(batch)
    asked_UT11 = people.has_targets_UT[:, :, None, None]
    padded = {name: of_one.padded(max(ks)) for name, of_one in lists.items()}
    return Block(
        people,
        {
            name: np.where(asked_UT11, values_of_lists(of_one, batch, ks), 0.0)
            for name, of_one in lists.items()
        },
        {name: catalogue.figures(lists_UK, users, ks) for name, lists_UK in padded.items()},
        padded,
    )
