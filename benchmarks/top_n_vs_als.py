"""The best 100 items of every user as a Spark job, Delta to Delta, against Spark MLlib's `recommendForAllUsers(100)`.

    make bench-top_n_vs_als
    make bench-top_n_vs_als ARGS=--quick

Both sides read the same Delta tables of user and item vectors of width 64 and write the same columns to Delta; on both,
the score is the inner product. Ours is the adapter of `score_top_n` with nothing but vectors: users spread by id and
sorted, Arrow batches, the item matrix memory-mapped by the workers, stage 1, lists as Arrow arrays that the workers
write and check themselves (`recsys.lake.row_files`), one commit. MLlib's rows are written by Spark, unchecked.
Encoding histories and weighing the parts of a blend are left out, for MLlib's factors are ready, too. MLlib has
`jdk.incubator.vector`, which Spark 4 gives its JVM by default: no option of ours makes the BLAS that it multiplies with
faster or slower; which one it took is printed.

In full, both sides do the whole job for the users of a case. With --quick each is timed at two numbers of users, and
the figure of both cases is the ratio of the rates between them: what a job takes to start is in neither.

The third case is what surrounds the kernel, at the larger size: the job's time less the kernel's (its processor seconds
over the two cores), to the time of the same job whose kernel gives the same made-up answer to every batch.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.dense import Floats, vectors
from benchmarks.limits import THREADS, of_products
from benchmarks.paired import ROUNDS, Condition, alternately, arguments, show
from benchmarks.top_n_worker import N, save_catalogue, scored
from recsys.config.places import PathsConfig, SparkConfig
from recsys.contracts import TOP_N_LISTS
from recsys.lake import ROW_FILE, Lake, RowFile, spark_session
from recsys.scoring.select import library
from recsys.scoring.spark import in_partitions

CORES = THREADS
PARTITIONS = 4
FILES = 4
"""Of a table of users: MLlib's tasks are the pairs of a part of the users and a part of the items."""
AS_OF = date(2024, 6, 1)

SMALL_CASE = "Spark MLlib recommendForAllUsers(100), 20k users"
LARGE_CASE = "Spark MLlib recommendForAllUsers(100), 200k users"
AROUND_CASE = "what surrounds the kernel to the same job with constant lists, 200k users"


@dataclass(frozen=True)
class Size:
    small: int = 20_000
    large: int = 200_000
    """Users of the cases."""
    samples: tuple[int, int] | None = None
    """Users that MLlib is timed on, where not on all; whole blocks of its 4,096."""
    items: int = 20_000
    dim: int = 64


QUICK, QUICK_ROUNDS = Size(large=60_000, samples=(4096, 8192)), 1


class Job:
    """Both sides, over the tables in ``folder``."""

    def __init__(self, spark: SparkSession, folder: Path, size: Size) -> None:
        self.spark, self.folder, self.size = spark, folder, size

    def make_tables(self, users: Iterable[int]) -> None:
        """Of the items, and one for each of these numbers of users."""
        self._write(vectors(self.size.items, self.size.dim, 1), "items", files=1)
        for each in set(users):
            self._write(vectors(each, self.size.dim, 2), f"users-{each}", files=FILES)

    def saved(self, name: str) -> pa.Table:
        """What a side wrote, by user."""
        rows = self._read(f"ours/lake/{TOP_N_LISTS.name}" if name == "ours" else name)
        return rows.orderBy("user_id").toArrow()

    def _write(self, rows_ND: Floats, name: str, *, files: int) -> None:
        nums = pa.array(np.arange(1, len(rows_ND) + 1, dtype=np.int32))
        offsets = np.arange(len(rows_ND) + 1, dtype=np.int32) * rows_ND.shape[1]
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows_ND.ravel()))
        table = pa.table({"num": nums, "id": nums.cast(pa.string()), "vector": lists})
        rows = self.spark.createDataFrame(table).repartition(files, "num")
        rows.write.format("delta").mode("overwrite").save(str(self.folder / name))

    def _read(self, name: str) -> DataFrame:
        return self.spark.read.format("delta").load(str(self.folder / name))

    def blas(self) -> str:
        jvm = self.spark.sparkContext._jvm
        assert jvm is not None
        return str(jvm.dev.ludovic.netlib.blas.JavaBLAS.getInstance().getClass().getSimpleName())

    def mllib(self, users: int) -> None:
        factors = {name: self._read(name).select(F.col("num").alias("id"), F.col("vector").alias("features"))
                   for name in (f"users-{users}", "items")}  # fmt: skip
        jvm = self.spark.sparkContext._jvm
        assert jvm is not None
        java = jvm.org.apache.spark.ml.recommendation.ALSModel(
            "als", self.size.dim, *(frame._jdf for frame in factors.values())
        )
        # Of the Java model: one that was not made by a fit has no names of columns, and Python's do not reach it.
        found = ALSModel(java.setUserCol("num").setItemCol("item")).recommendForAllUsers(N)
        lists = found.select(
            F.col("num").cast("string").alias("user_id"),
            F.col("recommendations.item").cast("array<string>").alias("item_ids"),
            F.col("recommendations.rating").alias("scores"),
            F.array_repeat(F.lit("model"), N).alias("sources"),
        )
        self._save(lists, "mllib")

    def ours(self, users: int, *, constant: bool = False) -> float:
        """Returns the kernel's processor seconds."""
        items = self._read("items").orderBy("num").toArrow().combine_chunks()
        place = save_catalogue(items, self.folder)
        taken = self.spark.sparkContext.accumulator(0.0)
        lake = Lake(self.spark, PathsConfig(root=str(self.folder / "ours")))
        to = lake.destination(TOP_N_LISTS, {"as_of": AS_OF})

        def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return scored(batches, place, to, taken, constant=constant)

        rows = self._read(f"users-{users}").select(F.col("id").alias("user_id"), "vector")
        found = in_partitions(rows, PARTITIONS).mapInArrow(score, ROW_FILE).collect()
        lake.commit_files(to, [RowFile(**row.asDict()) for row in found])
        return float(taken.value)

    def _with_day(self, lists: DataFrame) -> DataFrame:
        day = lists.withColumn("as_of", F.lit(AS_OF)).withColumn("model_version", F.lit("given"))
        return day.select(*TOP_N_LISTS.column_names)

    def _save(self, lists: DataFrame, name: str) -> None:
        rows = self._with_day(lists).write.format("delta").mode("overwrite")
        rows.partitionBy("as_of").save(str(self.folder / name))


def agree(job: Job, users: int) -> None:
    """Both sides are exact, so that their items are the same but where float32 cannot tell."""
    job.mllib(users)
    job.ours(users)
    found = [job.saved(name) for name in ("mllib", "ours")]
    assert found[0].column_names == found[1].column_names and found[0]["user_id"].equals(
        found[1]["user_id"]
    )
    items = [
        np.asarray(table["item_ids"].combine_chunks().flatten().cast(pa.int32())) for table in found
    ]
    scores = [np.asarray(table["scores"].combine_chunks().flatten()) for table in found]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)
    assert (differ := (items[0] != items[1]).mean()) < 0.01, f"{differ:.1%} of the items differ"


def run(job: Job, *, rounds: int = ROUNDS) -> None:
    """``job`` has its tables."""
    size = job.size
    few, many = size.samples or (size.small, size.large)
    agree(job, few)
    kernel: list[float] = []
    taken = alternately(
        {
            f"MLlib, {few} users": lambda: job.mllib(few),
            f"MLlib, {many} users": lambda: job.mllib(many),
            f"ours, {size.small} users": lambda: job.ours(size.small),
            f"ours, {size.large} users": lambda: kernel.append(job.ours(size.large)),
            f"constant lists, {size.large} users": lambda: job.ours(size.large, constant=True),
        },
        rounds=rounds,
    )
    show(taken)
    limits = of_products(size.large, size.items, size.dim)
    less, more, small, large, constant = taken.values()
    if size.samples:
        theirs = [(b - a) / (many - few) for a, b in zip(less, more, strict=True)]
        ours = [(b - a) / (size.large - size.small) for a, b in zip(small, large, strict=True)]
        found = {case: (theirs, ours) for case in (SMALL_CASE, LARGE_CASE)}
    else:
        found = {SMALL_CASE: (less, small), LARGE_CASE: (more, large)}
    for case, sides in found.items():
        ratios = [theirs / ours for theirs, ours in zip(*sides, strict=True)]
        Condition("top_n_vs_als", case).report(
            ratios, users=[few, many], rates=bool(size.samples), limits=limits
        )
    in_kernel = [of_cores / CORES for of_cores in kernel[-rounds:]]
    around = [a - b for a, b in zip(large, in_kernel, strict=True)]
    Condition("top_n_vs_als", AROUND_CASE).report(
        [a / b for a, b in zip(around, constant, strict=True)],
        kernel_seconds=round(statistics.median(in_kernel), 2),
        limits=limits,
    )


def main() -> None:
    asked = arguments(__doc__ or "").parse_args()
    if library() is None:
        raise SystemExit("scoring's compiled kernel is not there; `make setup` builds it")
    size, rounds = (
        (QUICK, min(asked.rounds, QUICK_ROUNDS)) if asked.quick else (Size(), asked.rounds)
    )
    config = SparkConfig(master=f"local[{CORES}]", driver_memory="4g")
    with tempfile.TemporaryDirectory() as folder, spark_session("top_n_vs_als", config) as spark:
        job = Job(spark, Path(folder), size)
        job.make_tables((size.small, size.large, *(size.samples or ())))
        print(f"MLlib's BLAS: {job.blas()}")
        run(job, rounds=rounds)


if __name__ == "__main__":
    main()
