"""What the nights listed, as a contestant: the table top_n_lists of the day of the cut-off."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from recsys.config.places import PathsConfig
from recsys.contracts import RELEASES, TOP_N_LISTS
from recsys.errors import MissingInput
from recsys.evaluation.splits import Window
from recsys.lake import Lake, local_rows
from recsys.records import ModelManifest, RankingManifest, ScoringRecord
from recsys.scoring.users import flat_lists

DAYS_NAMED = 10


def check_nights(lake: Lake, windows: Sequence[Window], last_day: date) -> None:
    """See that there are lists of every cut-off; ``last_day``: of the events.

    Raises:
        MissingInput: of some there are none; the days that have some are named, and what to do.
    """
    of_days = lake.read(TOP_N_LISTS).select("as_of").distinct().orderBy("as_of").collect()
    days = [row["as_of"] for row in of_days]
    missing = [window.cut_off for window in windows if window.cut_off not in days]
    if not missing:
        return
    length = timedelta(days=windows[0].days)
    measurable = [day for day in days if day + length <= last_day + timedelta(days=1)]
    other = (
        f", or give --run-date {measurable[-1] + length}, which measures the lists of {measurable[-1]}"
        if measurable
        else ""
    )
    raise MissingInput(
        f"table top_n_lists has no lists as of {_named(missing)}, where the measured days begin; its days are "
        f"{_named(days) or 'none'}. Run these nights first (./spark-submit.sh run_pipeline --run-date {missing[0]})"
        f"{other}"
    )


def _named(days: Sequence[date]) -> str:
    return ", ".join(map(str, days[-DAYS_NAMED:]))


def listed_pairs(lake: Lake, as_of: date, user_ids: pa.StringArray) -> pa.Table:
    """user_id, item_id, score of the lists of that day, those of ``user_ids`` alone: no rows where none has a list.

    A score here is 1 / place, so the order is that of the list, whatever made it.
    """
    of_day = lake.read(TOP_N_LISTS, as_of=as_of)
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


def models_of_lists(lake: Lake, paths: PathsConfig, as_of: date) -> dict[str, date | None]:
    """By version, the models that made the lists of that day, and the day before which lie all events that each knew.

    None where nothing tells any more. A model's manifest tells, while its folder is there; else the night's record,
    or ``releases``: a model that scores on a day for which it was not made is that of a release.
    """
    lists = lake.read(TOP_N_LISTS, as_of=as_of).select("model_version").distinct()
    versions = {row["model_version"] for row in lists.collect() if row["model_version"]}
    record = ScoringRecord.read_if_there(paths, as_of)
    if record is not None and record.model_version not in versions:
        record = None  # of other lists
    known = _released(lake, versions)
    if record is not None:
        known = {**known, record.model_version: record.model_as_of}
    found = {v: _fitted(ModelManifest, paths, v) or known.get(v) for v in sorted(versions)}
    if record is not None and (ranking := record.ranking_version):
        found[ranking] = _fitted(RankingManifest, paths, ranking)
    return found


def _fitted(
    kind: type[ModelManifest] | type[RankingManifest], paths: PathsConfig, version: str
) -> date | None:
    with suppress(MissingInput):
        return kind.read(paths.models / version).as_of
    return None


def _released(lake: Lake, versions: Collection[str]) -> Mapping[str, date]:
    released = lake.read_or_empty(RELEASES).where(
        F.col("model_version").isin(list(versions)) & F.col("model_age_days").isNotNull()
    )
    fitted = F.date_sub("run_date", F.col("model_age_days"))
    rows = released.select("model_version", fitted.alias("as_of")).distinct().collect()
    return {row["model_version"]: row["as_of"] for row in rows}
