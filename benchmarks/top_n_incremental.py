"""A day on which 5 % of the users did something: `score_changes` against `score_top_n`, both as they are shipped.

    make bench-top_n_incremental
    make bench-top_n_incremental ARGS=--quick
    make bench-top_n_incremental ARGS="--users 2000000 --rounds 1"

20 events a user, 20k items with vectors of width 64 and 100 neighbours each; the encoder is the mean of a history's
vectors, which costs nearly nothing, so that the full run is as short as it can be. Histories, which `score_changes`
makes for those who are affected and for the sample that it audits, are there when the full run starts: `build_features`
is not counted. Both sides run at two numbers of users, or at those of --users; time at a number that was not run is on
the line through the medians of two that were, and "met" is null.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.limits import Limits, of_products
from benchmarks.paired import ROUNDS, Condition, arguments, seconds, show
from jobs import score_changes, score_top_n
from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig, SparkConfig
from recsys.ingest.batch import write_tasks
from recsys.lake import Lake, spark_session
from recsys.records import EvaluationRecord, Recipe, ScoringRecord
from recsys.release.manifest import CodeVersion, ReleaseManifest, ReleaseModel, TableVersion
from recsys.release.pointer import Pointer, release_folder, write_pointer
from tests.scoring.worlds import model_folder

FULL = date(2024, 6, 1)
MIDNIGHT = datetime(2024, 6, 1, tzinfo=UTC)
NEXT = FULL + timedelta(days=1)
RECIPE = Recipe(name="blend", model=0.5, similarity=0.4, transitions=0.6, popularity=0.1, decay=0.9)
EVENTS_AT_ONCE = 4_000_000
"""Spark's heap holds them."""
SHARE = 0.05
"""Of the users who act on the day between."""
SMALL_CASE = "5 % of 200k users affected, time to the full run's"
LARGE_CASE = "5 % of 2M users affected, time to the full run's"
AFFECTED_CASE = "users scored to users affected"


@dataclass(frozen=True)
class Size:
    users: tuple[int, ...] = (50_000, 200_000)
    """Numbers of users that both sides run at, ascending."""
    items: int = 20_000
    dim: int = 64
    neighbours: int = 100
    events: int = 20
    """Of each user."""


QUICK = Size(users=(5_000, 30_000), items=2_000, neighbours=20)


class Shop:
    """Tables of ``users`` users under ``root``, a full run that is live, and the news of the day after."""

    def __init__(self, spark: SparkSession, root: Path, size: Size, users: int) -> None:
        paths = PathsConfig(root=str(root))
        self.config, self.lake = RecsysConfig(paths=paths), Lake(spark, paths)
        self.size, self.users = size, users
        self.draw = np.random.default_rng(11)
        self._write_tables()
        vectors = self.draw.normal(size=(size.items + 1, size.dim))
        vectors[0] = 0
        model_folder(paths.models, vectors, history_length=50, as_of=FULL)
        EvaluationRecord(
            run_date=FULL, passed=True, reason="ok", recipe=RECIPE, model_version="hand-made"
        ).write(paths)
        self.full_run()
        self.inputs = self.record
        self.go_live()
        self.affected = self._write_news()

    def full_run(self) -> None:
        self.record = score_top_n.run(self.lake, self.config, FULL)

    def go_live(self) -> None:
        """Publish the last full run, as if it had read the events before the news, which its histories are of."""
        first = self.inputs
        record = self.record.model_copy(
            update={"versions": first.versions, "events_version": first.events_version}
        )
        record.write(self.config.paths)
        self._publish(record)

    def changes(self) -> ScoringRecord:
        return score_changes.run(self.lake, self.config, NEXT)

    def _write_tables(self) -> None:
        size, users = self.size, self.users
        item_ids = pa.array([f"item-{n:06}" for n in range(1, size.items + 1)])
        user_ids = pa.array([f"user-{n:07}" for n in range(users)])
        for kind, ids in (("item", item_ids), ("user", user_ids)):
            self._write(t.VOCABULARIES, len(ids), kind=_same(kind, len(ids)), version=_day(len(ids)), id=ids,
                        num=pa.array(np.arange(1, len(ids) + 1, dtype=np.int32)))  # fmt: skip
        places = users * size.events
        items = np.minimum(self.draw.zipf(1.3, places) - 1, size.items - 1).astype(np.int64)
        items = (items * 7919) % size.items
        nums = pa.array((items + 1).astype(np.int32))
        offsets = pa.array(np.arange(users + 1, dtype=np.int32) * size.events)
        ages = np.tile(np.arange(size.events, 0, -1), users)
        of_users = user_ids.take(pa.array(np.repeat(np.arange(users), size.events)))
        self._write(
            t.HISTORIES, users, user_id=user_ids, as_of=_day(users),
            item_ids=pa.ListArray.from_arrays(offsets, item_ids.take(pa.array(items))),
            item_nums=pa.ListArray.from_arrays(offsets, nums),
            event_types=pa.ListArray.from_arrays(offsets, _same("purchase", places)),
            ages_days=pa.ListArray.from_arrays(offsets, pa.array(ages.astype(np.float32))),
            is_capped=_same(False, users),
        )  # fmt: skip
        self._write(t.SEEN_ITEMS, 0)
        self._events(of_users, item_ids.take(pa.array(items)), -ages)
        for contract, other in ((t.ITEM_SIMILARITY, "similar"), (t.TRANSITIONS, "next")):
            self._write_pairs(contract, other, item_ids)
        self._write(
            t.POPULARITY, size.items, segment=_same("", size.items), as_of=_day(size.items), item_id=item_ids,
            item_num=pa.array(np.arange(1, size.items + 1, dtype=np.int32)),
            score=pa.array(self.draw.random(size.items)),
            num_users=pa.array(np.arange(size.items, 0, -1)),
            rank=pa.array(np.arange(1, size.items + 1, dtype=np.int32)),
        )  # fmt: skip

    def _write_pairs(self, contract: t.TableContract, other: str, item_ids: pa.Array) -> None:
        size = self.size
        each = min(size.neighbours, size.items - 1)
        ones = np.repeat(np.arange(size.items), each)
        steps = 1 + np.tile(np.arange(each) * ((size.items - 1) // each), size.items)
        others = (ones + steps) % size.items
        self._write(contract, len(ones), **{
            "item_id": item_ids.take(pa.array(ones)), "as_of": _day(len(ones)),
            f"{other}_item_id": item_ids.take(pa.array(others)),
            "item_num": pa.array((ones + 1).astype(np.int32)),
            f"{other}_item_num": pa.array((others + 1).astype(np.int32)),
            "score": pa.array(self.draw.random(len(ones))),
        })  # fmt: skip

    def _write(self, contract: t.TableContract, rows: int, **columns: pa.Array) -> None:
        """Straight to Delta; what is not given is null."""
        empty = self.lake.spark.createDataFrame(
            [], ", ".join(f"`{c.name}` {c.type}" for c in contract.columns)
        )
        schema = empty.toArrow().schema
        arrays = [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
            for field in schema
        ]  # fmt: skip
        table = pa.Table.from_arrays(arrays, schema=schema)
        write_deltalake(self.lake.path(contract), table, mode="append")

    def _events(self, user_ids: pa.Array, item_ids: pa.Array, days: np.ndarray) -> None:  # type: ignore[type-arg]
        """Append purchases, so many days after ``FULL``, through Spark: the table has a change feed."""
        table = pa.table({"user_id": user_ids, "item_id": item_ids, "days": pa.array(days)})
        self.lake.create(t.EVENTS)
        for start in range(0, len(table), EVENTS_AT_ONCE):
            self._append_events(table.slice(start, EVENTS_AT_ONCE))

    def _append_events(self, table: pa.Table) -> None:
        rows = self.lake.spark.createDataFrame(table)
        at = F.timestamp_seconds(F.lit(int(MIDNIGHT.timestamp())) + 86400 * F.col("days"))
        given = {
            "event_id": F.concat_ws(" ", "user_id", "item_id", "days"), "event_type": F.lit("purchase"),
            "user_id": F.col("user_id"), "item_id": F.col("item_id"), "event_ts": at,
            "event_date": F.to_date(at), "source": F.lit("shop"), "source_file": F.lit("a file"),
        }  # fmt: skip
        columns = [
            given.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in t.EVENTS.columns
        ]
        # In files as ingest makes them: of this many rows, by time.
        order = ("event_ts", *t.EVENTS.key)
        spread = rows.select(*columns).repartitionByRange(write_tasks(len(table), 2), *order)
        spread.sortWithinPartitions(*order).write.format("delta").mode("append").save(
            self.lake.path(t.EVENTS)
        )

    def _write_news(self) -> int:
        acting = self.draw.choice(self.users, int(self.users * SHARE), replace=False)
        ids = pa.array([f"user-{n:07}" for n in acting])
        items = self.draw.integers(1, self.size.items + 1, len(acting))
        self._events(ids, pa.array([f"item-{n:06}" for n in items]), np.zeros(len(acting), int))
        return len(acting)

    def _publish(self, record: ScoringRecord) -> None:
        newest = {
            table.name: self.lake.version(table)
            for table in (t.RULES, t.TOP_N_LISTS, t.SIMILAR_ITEMS)
        }
        versions = newest | {t.EVENTS.name: record.events_version}
        tables = {
            name: TableVersion(version=version, content_hash="", rows=self.users)
            for name, version in versions.items()
        }
        manifest = ReleaseManifest(
            release_id=f"{FULL}-abcdef012345", run_date=FULL, shop="bench", content_hash="c", tables=tables, lists={},
            model=ReleaseModel(
                version=record.model_version, as_of=record.model_as_of, hash="h", age_days=0, reason="new"
            ),
            recipe=RECIPE, config_hash="h", code=CodeVersion(package="0", commit=""),
        )  # fmt: skip
        folder = release_folder(self.config.paths, manifest.release_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(manifest.to_json())
        write_pointer(self.config.paths, Pointer(release_id=manifest.release_id, at=MIDNIGHT))


def _same(value: object, rows: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(rows, np.int64)))


def _day(rows: int) -> pa.Array:
    return _same(FULL, rows)


def on_the_line(taken: dict[int, list[float]], users: int) -> list[float]:
    """Seconds at ``users`` by round; measured, or on the line through the two numbers of users that were."""
    if users in taken:
        return taken[users]
    (few, less), (many, more) = sorted(taken.items())
    slope = (statistics.median(more) - statistics.median(less)) / (many - few)
    return [seconds + max(slope, 0) * (users - many) for seconds in more]


def run(spark: SparkSession, root: Path, size: Size, *, rounds: int = ROUNDS) -> None:
    full: dict[int, list[float]] = {}
    changes: dict[int, list[float]] = {}
    scored: list[float] = []
    for users in size.users:
        shop = Shop(spark, root / str(users), size, users)
        full[users], changes[users] = [], []
        shop.changes()  # the full run has run once, too
        for _ in range(rounds):
            full[users].append(seconds(shop.full_run))
            shop.go_live()
            changes[users].append(seconds(shop.changes))
        record = ScoringRecord.read(shop.config.paths, NEXT)
        scored.append(int(record.reason.split(": ")[1].split()[0]) / shop.affected)
        show({f"full run, {users} users": full[users], f"changes, {users} users": changes[users]})
    report(changes, full, scored, of_products(max(size.users), size.items, size.dim))


def report(
    changes: dict[int, list[float]],
    full: dict[int, list[float]],
    scored: Sequence[float],
    limits: Limits,
) -> None:
    """Of seconds by users and round, and of how many were scored for each who was affected."""
    for case, users in ((SMALL_CASE, 200_000), (LARGE_CASE, 2_000_000)):
        if users not in full and len(full) == 1:
            continue
        ours, whole = on_the_line(changes, users), on_the_line(full, users)
        Condition("top_n_incremental", case).report(
            [a / b for a, b in zip(ours, whole, strict=True)],
            measured=users in full, full_seconds=round(statistics.median(whole), 1),
            limits=limits,
        )  # fmt: skip
    Condition("top_n_incremental", AFFECTED_CASE).report(scored, limits=limits)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--users", type=int, nargs="+", default=Size.users, metavar="N")
    asked = parser.parse_args()
    size, rounds = (QUICK, 1) if asked.quick else (Size(users=tuple(asked.users)), asked.rounds)
    config = SparkConfig(master="local[2]", driver_memory="5g")
    with (
        tempfile.TemporaryDirectory() as folder,
        spark_session("top_n_incremental", config) as spark,
    ):
        print(json.dumps({"users": size.users, "items": size.items, "rounds": rounds}))
        run(spark, Path(folder), size, rounds=rounds)


if __name__ == "__main__":
    main()
