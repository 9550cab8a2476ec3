"""What a release publishes of a run date: lists and facts as DataFrames of one row per key, and as stored bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.contracts import (
    ALSO_BOUGHT,
    HISTORIES,
    ITEMS,
    POPULAR_ITEMS,
    POPULARITY,
    RULES,
    SIMILAR_ITEMS,
    TOP_N_LISTS,
    TableContract,
)
from recsys.lake import Lake
from recsys.lake.as_of import instant, known_before
from recsys.release.encoding import encode_batches, keys_and_values
from recsys.release.snapshot import FORMAT, Kind
from recsys.release.snapshot_builder import Chunk
from recsys.release.stored_list import CATEGORY_PATH, MAX_KEY_BYTES, WHOLE_SHOP

PUBLISHED: dict[str, TableContract] = {
    "top_n": TOP_N_LISTS,
    "similar": SIMILAR_ITEMS,
    "also_bought": ALSO_BOUGHT,
    "popular": POPULAR_ITEMS,
}
"""List -> the table it is published from."""

LISTS_PER_PARTITION = 20_000
"""About 100 MB of stored lists: what the driver holds at a time."""


@dataclass(frozen=True)
class Lists:
    """All values of one kind, one row per key."""

    kind: Kind
    rows: DataFrame
    """id, item_ids, scores, sources; of facts and bought: id, value (JSON)."""


def published_lists(
    lake: Lake,
    config: RecsysConfig,
    versions: Mapping[str, int],
    run_date: date,
    *,
    inputs_as_of: date,
) -> list[Lists]:
    """What goes into the snapshot: ``list_sources``, all of them."""
    sources = list_sources(
        lake, config, versions, run_date,
        inputs_as_of=inputs_as_of, category_n=config.publish.category_n,
    )  # fmt: skip
    return [Lists(kind, rows()) for kind, rows in sources.items()]


def list_sources(
    lake: Lake,
    config: RecsysConfig,
    versions: Mapping[str, int],
    run_date: date,
    *,
    inputs_as_of: date,
    category_n: int,
) -> dict[Kind, Callable[[], DataFrame]]:
    """Kind -> what reads its rows at ``versions``; one whose tables cannot be read hinders no other.

    Kinds whose tables are not there are left out. ``inputs_as_of`` is the day of histories and popularity: the run
    date, but after score_changes.
    """

    def rows(contract: TableContract) -> DataFrame:
        as_of = inputs_as_of if contract in {HISTORIES, POPULARITY} else run_date
        return lake.read(contract, version=versions[contract.name], as_of=as_of)

    def catalogue() -> DataFrame:
        items = lake.read(ITEMS, version=versions[ITEMS.name]).select(
            "item_id", "valid_from", "source", "source_file", "title", "category", "price"
        )
        return known_before(items, "item_id", run_date)

    def beside(contract: TableContract, item: str, source: str) -> DataFrame:
        shelves = _ranked(rows(contract), "item_id", item, source)
        if ITEMS.name not in versions:
            return shelves
        # An item that goes with nothing is known all the same: its shelf is empty, not unknown.
        return _with_empty(shelves, catalogue().select(F.col("item_id").alias("id")))

    def categories() -> DataFrame:
        hidden = hidden_items(rows(RULES)) if RULES.name in versions else None
        return popular_by_category(catalogue(), rows(POPULARITY), hidden, n=category_n)

    sources: dict[Kind, Callable[[], DataFrame]] = {
        "users": lambda: rows(TOP_N_LISTS).select(
            F.col("user_id").alias("id"), "item_ids", "scores", "sources"
        ),
        "segments": lambda: _ranked(rows(POPULAR_ITEMS), "segment", "item_id", "popular"),
    }
    if ITEMS.name in versions:
        sources["facts"] = lambda: item_facts(catalogue())
        if POPULARITY.name in versions:
            sources["categories"] = categories
    if HISTORIES.name in versions and config.publish.bought:
        sources["bought"] = lambda: bought(rows(HISTORIES), config, inputs_as_of)
    sources["items"] = lambda: beside(SIMILAR_ITEMS, "similar_item_id", "similar")
    if ALSO_BOUGHT.name in versions:
        sources["also_bought"] = lambda: beside(ALSO_BOUGHT, "next_item_id", "also_bought")
    return sources


def snapshot_options(config: RecsysConfig) -> dict[str, int]:
    """What, beside the tables, decides what a snapshot holds; part of the release's name."""
    publish = config.publish
    return {"format": FORMAT, "category_n": publish.category_n, "bought": publish.bought}


def item_facts(catalogue: DataFrame) -> DataFrame:
    """What people call an item, where it belongs and what it costs; what is null is left out."""
    price = F.col("price").cast("double").alias("price")
    return catalogue.select(
        F.col("item_id").alias("id"),
        F.to_json(F.struct("title", "category", price)).cast("binary").alias("value"),
    )


def hidden_items(rules: DataFrame) -> DataFrame:
    """The items that a rule takes from everybody."""
    for_all = rules.where((F.col("stage") == 1) & (F.col("segment") == WHOLE_SHOP))
    return for_all.select(F.explode("item_ids").alias("item_id")).distinct()


def popular_by_category(
    catalogue: DataFrame, popularity: DataFrame, hidden: DataFrame | None, *, n: int
) -> DataFrame:
    """What sells best in each category, those below it included; a category that sells nothing is empty.

    ``catalogue`` has a row per item, ``popularity`` one per segment and item, ``hidden`` the items not to show.
    """
    parts = F.split("category", CATEGORY_PATH)
    paths = F.transform(
        F.sequence(F.lit(1), F.size(parts)),
        lambda depth: F.array_join(F.slice(parts, 1, depth), CATEGORY_PATH),
    )
    of_category = catalogue.where("category IS NOT NULL AND category != ''").select(
        "item_id", F.explode(paths).alias("category")
    )
    sold = popularity.where(F.col("segment") == WHOLE_SHOP).select("item_id", "score", "rank")
    if hidden is not None:
        sold = sold.join(hidden, "item_id", "left_anti")
    best_first = Window.partitionBy("category").orderBy("rank")
    ranked = (
        of_category.join(sold, "item_id")
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= n)
    )
    return _with_empty(
        _ranked(ranked, "category", "item_id", "popular"),
        of_category.select(F.col("category").alias("id")).distinct(),
    )


def bought(histories: DataFrame, config: RecsysConfig, run_date: date) -> DataFrame:
    """Each user's last purchases (what ``shop.signals`` calls targets), newest first, as JSON."""
    shop = config.shop
    events = F.arrays_zip("item_ids", "event_types", "ages_days")
    targets = F.filter(events, lambda e: e["event_types"].isin(*shop.event_types("target")))
    newest_first = F.slice(F.reverse(targets), 1, config.publish.bought)
    now = F.lit(instant(run_date, shop.zone).timestamp())

    def shown(event: SparkColumn) -> SparkColumn:
        at = F.timestamp_seconds(now - event["ages_days"].cast("double") * 86400)
        return F.struct(
            event["item_ids"].alias("item_id"),
            event["event_types"].alias("event_type"),
            F.to_date(F.from_utc_timestamp(at, shop.time_zone)).alias("date"),
        )

    rows = histories.select(
        F.col("user_id").alias("id"), F.transform(newest_first, shown).alias("events")
    )
    value = F.to_json("events").cast("binary").alias("value")
    return rows.where(F.size("events") > 0).select("id", value)


def stored_chunks(lists: Lists, keys: int) -> Iterator[Chunk]:
    """Keys and values, keys ascending; encoded on the workers, one partition at a time on the driver."""
    partitions = max(1, -(-keys // LISTS_PER_PARTITION))
    keyed = lists.rows.withColumn("key", _key(F.col("id")))
    keyed = keyed.drop("id")
    if partitions == 1:
        keyed = keyed.coalesce(1)  # spares the job that samples the keys for their ranges
    else:
        keyed = keyed.repartitionByRange(partitions, "key")
    ordered = keyed.sortWithinPartitions("key")
    for row in ordered.mapInArrow(encode_batches, "chunk binary").toLocalIterator(
        prefetchPartitions=True
    ):
        yield keys_and_values(row["chunk"])


def _ranked(rows: DataFrame, id_: str, item: str, source: str) -> DataFrame:
    """One list per id from one row per place."""
    score = F.col("score").cast("float").alias("score")
    place = F.struct("rank", F.col(item).alias("item_id"), score)
    lists = rows.groupBy(F.col(id_).alias("id")).agg(F.array_sort(F.collect_list(place)).alias("p"))
    return lists.select(
        "id",
        F.col("p.item_id").alias("item_ids"),
        F.col("p.score").alias("scores"),
        F.transform("p", lambda _: F.lit(source)).alias("sources"),
    )


def _with_empty(lists: DataFrame, known: DataFrame) -> DataFrame:
    """``lists``, and an empty one for each id of ``known`` that has none."""
    columns = {"item_ids": "array<string>", "scores": "array<float>", "sources": "array<string>"}
    return known.join(lists, "id", "full").select(
        "id",
        *(F.coalesce(name, F.array().cast(type_)).alias(name) for name, type_ in columns.items()),
    )


def _key(id_: SparkColumn) -> SparkColumn:
    """``stored_list.key_of`` in Spark."""
    raw = id_.cast("binary")
    not_utf8 = F.unhex(F.lit("FF"))
    hashed = F.concat(not_utf8, F.unhex(F.sha2(raw, 256)))
    return (
        F.when(F.length(raw) == 0, not_utf8)
        .when(F.length(raw) > MAX_KEY_BYTES, hashed)
        .otherwise(raw)
    )
