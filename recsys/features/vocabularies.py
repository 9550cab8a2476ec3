"""Dense numbers for items and users; a number, once given, stays."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import VOCABULARIES
from recsys.features.numbering import with_start
from recsys.lake import apply_contract
from recsys.lake.as_of import events_before

ID_OF_KIND = {"item": "item_id", "user": "user_id"}
NEVER_SEEN = date(9999, 12, 31)  # bucket of what is in the catalogue and in no event: numbered last


def vocabularies(
    events: DataFrame, items: DataFrame, users: DataFrame, earlier: DataFrame, *, as_of: date
) -> DataFrame:
    """Version ``as_of`` of both vocabularies.

    It keeps every number of the newest version up to ``as_of`` in ``earlier`` (rows of ``vocabularies``,
    of any version): of ``as_of`` itself where it is built again, so that what was trained with it stays
    right. Ids that are new (in events of any type, in ``items`` or ``users`` known before ``as_of``, or in
    the version before) follow in the order of (first event_ts, id); those without an event come last.
    """
    kept = _newest(earlier.where(F.col("version") <= F.lit(as_of)))
    before = _newest(earlier.where(F.col("version") < F.lit(as_of)))
    known = events_before(events, as_of)
    first_seen = reduce(
        DataFrame.unionByName,
        [
            _first_seen(known, catalogue, kind, as_of)
            for kind, catalogue in (("item", items), ("user", users))
        ],
    )
    new = (
        first_seen.unionByName(
            before.select("kind", "id", F.lit(None).cast("timestamp").alias("first_ts"))
        )
        .groupBy("kind", "id")
        .agg(F.min("first_ts").alias("first_ts"))
        .join(kept, ["kind", "id"], "left_anti")
    )
    last = kept.groupBy("kind").agg(F.max("num").alias("last_num"))
    bucket = F.coalesce(F.to_date("first_ts"), F.lit(NEVER_SEEN))
    numbered = (
        with_start(new, "num_before", bucket=bucket, order_by=["first_ts", "id"], within=["kind"])
        .join(F.broadcast(last), "kind", "left")
        .withColumn("num", (F.coalesce("last_num", F.lit(0)) + F.col("num_before") + 1).cast("int"))
        .select("kind", "id", "num")
    )
    version = (
        kept.select("kind", "id", "num").unionByName(numbered).withColumn("version", F.lit(as_of))
    )
    return apply_contract(version, VOCABULARIES)


def _newest(versions: DataFrame) -> DataFrame:
    newest = versions.agg(F.max("version").alias("version"))
    return versions.join(F.broadcast(newest), "version").select("kind", "id", "num")


def _first_seen(events: DataFrame, catalogue: DataFrame, kind: str, as_of: date) -> DataFrame:
    id_ = F.col(ID_OF_KIND[kind])
    in_events = events.where(id_.isNotNull()).select(
        id_.alias("id"), F.col("event_ts").alias("first_ts")
    )
    in_catalogue = catalogue.where(F.col("valid_from") < F.lit(as_of)).select(
        id_.alias("id"), F.lit(None).cast("timestamp").alias("first_ts")
    )
    return in_events.unionByName(in_catalogue).withColumn("kind", F.lit(kind))
