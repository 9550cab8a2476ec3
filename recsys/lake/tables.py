"""Read and write the tables of contracts.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import xor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import structlog
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.storagelevel import StorageLevel

from recsys.contracts import VOCABULARIES, TableContract
from recsys.errors import ContractError, MissingInput
from recsys.lake.delta_log import replace_files
from recsys.lake.row_files import Destination, RowFile, RowFileWriter
from recsys.lake.schema import (
    apply_contract,
    content_hash,
    content_hash_columns,
    local_rows,
    struct_type,
)
from recsys.locks import exclusive

if TYPE_CHECKING:
    from recsys.config.places import PathsConfig

log = structlog.get_logger()

PROPERTIES = {
    "delta.enableInCommitTimestamps": "true",
    "delta.enableChangeDataFeed": "true",
    # Readers of other makers, at reader version 1, must be able to read every table.
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
}

ARROW_ROWS = 100_000
"""Of a table that one process writes, at a time."""

Value = str | date | int
Values = Value | Sequence[Value]
"""What a column has to be: one value, or one of several."""


@dataclass(frozen=True)
class Written:
    """What one write did."""

    table: str
    version: int
    rows: int
    content_hash: str
    """Order-free hash of the rows written; equal content, equal hash."""


class Lake:
    """The tables under one root. Writes replace rows atomically; a killed write leaves the old version."""

    def __init__(self, spark: SparkSession, paths: PathsConfig) -> None:
        self.spark = spark
        self.paths = paths
        self._root = paths.lake_uri
        self._locks = paths.locks

    def path(self, contract: TableContract) -> str:
        return f"{self._root.rstrip('/')}/{contract.name}"

    def exists(self, contract: TableContract) -> bool:
        return DeltaTable.isDeltaTable(self.spark, self.path(contract))

    def read(
        self, contract: TableContract, *, version: int | None = None, **where: Values
    ) -> DataFrame:
        """The table's rows, at ``version`` or the newest; ``where`` keeps rows with these values.

        Raises:
            MissingInput: the table was never written.
        """
        if not self.exists(contract):
            raise MissingInput(
                f"table {contract.name} does not exist at {self.path(contract)}: "
                "run the job that makes it first (./spark-submit.sh --help lists what each job writes)"
            )
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        rows = reader.load(self.path(contract))
        return rows.where(_predicate(where)) if where else rows

    def read_or_empty(self, contract: TableContract, **where: Values) -> DataFrame:
        """As ``read``, but no rows where the table was never written."""
        if self.exists(contract):
            rows = self.read(contract)
            return rows.where(_predicate(where)) if where else rows
        return local_rows(self.spark, [], struct_type(contract))

    def vocabulary(self, as_of: date) -> DataFrame:
        """The rows of ``vocabularies`` of one version."""
        return self.read(VOCABULARIES).where(F.col("version") == F.lit(as_of))

    def version(self, contract: TableContract) -> int:
        """The newest version of the table."""
        history = DeltaTable.forPath(self.spark, self.path(contract)).history(1)
        return int(history.select("version").first()[0])  # type: ignore[index]

    def replace(
        self,
        df: DataFrame,
        contract: TableContract,
        where: Mapping[str, Values],
        *,
        row_group_bytes: int = 0,
    ) -> Written:
        """Replace the rows that have the values ``where`` by ``df``, in one commit.

        Checked before anything is written: columns and types, NOT NULL, the key's uniqueness, and that
        every row has the values of ``where``. The same call again gives the same table. ``row_group_bytes`` is
        the size of a Parquet row group before compression (Parquet's default when 0).

        Raises:
            ContractError: a check failed; the table is as before.
        """
        if tuple(where) != contract.replaced_by:
            raise ContractError(
                f"one write to {contract.name} replaces the rows of a {', '.join(contract.replaced_by)}, "
                f"not of a {', '.join(where)}"
            )
        return self.replace_where(
            df, contract, predicate=_sql_predicate(where), where=_predicate(where),
            row_group_bytes=row_group_bytes,
        )  # fmt: skip

    def replace_where(
        self,
        df: DataFrame,
        contract: TableContract,
        *,
        predicate: str,
        where: Any,
        row_group_bytes: int = 0,
    ) -> Written:
        """``replace`` for a predicate of the caller's; ``where`` is the same as a Spark column."""
        rows = apply_contract(df, contract).persist(StorageLevel.MEMORY_AND_DISK_DESER)
        try:
            count, hashed = self._check(rows, contract, where)
            with self.commit_lock(contract):
                self.create(contract)
                writer = (
                    rows.write.format("delta")
                    .mode("overwrite")
                    .option("replaceWhere", predicate)
                    .option("userMetadata", json.dumps({"content_hash": hashed, "rows": count}))
                )
                with self._row_groups_of(row_group_bytes):
                    writer.save(self.path(contract))
                written = Written(contract.name, self.version(contract), count, hashed)
        finally:
            rows.unpersist()
        log.info("table_written", table=written.table, version=written.version, rows=written.rows)
        return written

    def destination(self, contract: TableContract, where: Mapping[str, date]) -> Destination:
        """Where workers write the rows that ``commit_files`` then puts in the place of those with the values ``where``.

        The table is created, if it is not there.
        """
        if tuple(where) != contract.replaced_by or tuple(where) != contract.partitioned_by:
            raise ContractError(
                f"{contract.name} is not replaced by the partition {', '.join(where)}"
            )
        with self.commit_lock(contract):
            self.create(contract)
        schema = to_arrow_schema(struct_type(contract))
        return Destination(contract, schema, self.path(contract), dict(where))

    def replace_by_arrow(
        self, rows: pa.Table, contract: TableContract, where: Mapping[str, date]
    ) -> Written:
        """Replace a partition by rows that this process holds, all columns but the partition's, in the key's order.

        Raises:
            ContractError: a check failed; the table is as before.
        """
        to = self.destination(contract, where)
        with RowFileWriter(to) as writer:
            for batch in rows.to_batches(max_chunksize=ARROW_ROWS):
                writer.write(batch)
            file = writer.close()
        return self.commit_files(to, [file] if file else [])

    def commit_files(self, to: Destination, files: Sequence[RowFile]) -> Written:
        """Replace the rows of a partition by those of ``files``, in one commit; what they hold was checked.

        A killed job leaves files that no version names; clean_up takes them away.
        """
        contract, mask = to.contract, (1 << 64) - 1
        count = sum(file.rows for file in files)
        hash_xor = reduce(xor, (file.hash_xor for file in files), 0)
        hashed = content_hash(count, sum(file.hash_sum for file in files), hash_xor & mask)
        with self.commit_lock(contract):
            version = replace_files(
                self.spark, to.location, [file.as_added(to) for file in files],
                partition=to.values, predicate=_sql_predicate(to.partition),
                metadata=json.dumps({"content_hash": hashed, "rows": count}),
            )  # fmt: skip
        log.info("table_written", table=contract.name, version=version, rows=count)
        return Written(contract.name, version, count, hashed)

    @contextmanager
    def _row_groups_of(self, size_bytes: int) -> Iterator[None]:
        """Writes inside make row groups of about this size.

        Parquet 1.15 has no limit in rows, and Delta passes no Parquet option of a writer on, so it is set on
        the session while the write runs.
        """
        if not size_bytes:
            yield
            return
        self.spark.conf.set("parquet.block.size", size_bytes)
        try:
            yield
        finally:
            self.spark.conf.unset("parquet.block.size")

    def append(self, df: DataFrame, contract: TableContract) -> Written:
        """Add rows; for logs such as ``releases`` alone, where a repeat is a fact of its own."""
        rows = apply_contract(df, contract)
        count, hashed = self._check(rows, contract, F.lit(True))
        with self.commit_lock(contract):
            self.create(contract)
            rows.write.format("delta").mode("append").save(self.path(contract))
            return Written(contract.name, self.version(contract), count, hashed)

    def content_hash(
        self, contract: TableContract, version: int | None = None, **where: Values
    ) -> str:
        """Order-free hash of the rows that are there."""
        row = (
            self.read(contract, version=version, **where)
            .agg(*content_hash_columns(contract))
            .first()
        )
        assert row is not None
        return content_hash(row["rows"], row["hash_sum"], row["hash_xor"])

    def commit_lock(self, contract: TableContract) -> AbstractContextManager[None]:
        return exclusive(
            Path(self._locks) / f"table-{contract.name}.lock",
            wait=True,
            what=f"a write to {contract.name}",
        )

    def create(self, contract: TableContract) -> None:
        """Create the table, with comments, NOT NULL and CHECK constraints, unless it is there."""
        if self.exists(contract):
            self._add_new_columns(contract)
            return
        builder = (
            DeltaTable.createIfNotExists(self.spark)
            .location(self.path(contract))
            .comment(contract.meaning)
            .addColumns(struct_type(contract))
        )
        if contract.partitioned_by:
            builder = builder.partitionedBy(*contract.partitioned_by)
        checks = {f"delta.constraints.{name}": check for name, check in contract.checks.items()}
        for key, value in (PROPERTIES | checks).items():
            builder = builder.property(key, value)
        builder.execute()

    def _add_new_columns(self, contract: TableContract) -> None:
        """A contract may grow by nullable columns; anything else is refused when the rows are written."""
        have = set(self.spark.read.format("delta").load(self.path(contract)).columns)
        new = [c for c in contract.columns if c.name not in have]
        if required := [c.name for c in new if c.required]:
            raise ContractError(
                f"table {contract.name} at {self.path(contract)} lacks the required columns {required}: "
                "it was made by another version; move it away and run the jobs again"
            )
        for column in new:
            self.spark.sql(
                f"ALTER TABLE delta.`{self.path(contract)}` ADD COLUMNS "
                f"(`{column.name}` {column.type} COMMENT {sql_literal(column.meaning)})"
            )

    def _check(self, rows: DataFrame, contract: TableContract, where: Any) -> tuple[int, str]:
        required = [c.name for c in contract.columns if c.required]
        nulls = [F.count_if(F.col(name).isNull()).alias(f"null_{name}") for name in required]
        outside = F.count_if(~F.coalesce(where, F.lit(False))).alias("outside")
        found = rows.agg(*content_hash_columns(contract), outside, *nulls).first()
        assert found is not None
        problems = [
            f"{name}: {found[f'null_{name}']} nulls" for name in required if found[f"null_{name}"]
        ]
        if found["outside"]:
            problems.append(f"{found['outside']} rows lie outside what this write replaces")
        repeated = (
            rows.groupBy(*contract.key)
            .count()
            .where("count > 1")
            .orderBy(*contract.key)
            .limit(3)
            .collect()
        )
        problems += [
            f"key {dict(zip(contract.key, row, strict=False))} {row['count']} times"
            for row in repeated
        ]
        if problems:
            raise ContractError(f"{contract.name} contract broken:\n  " + "\n  ".join(problems))
        return found["rows"], content_hash(found["rows"], found["hash_sum"], found["hash_xor"])


def _predicate(where: Mapping[str, Values]) -> Any:
    predicate = F.lit(True)
    for name, value in where.items():
        predicate = predicate & F.col(name).isin(*_each(value))
    return predicate


def _sql_predicate(where: Mapping[str, Values]) -> str:
    return " AND ".join(
        f"`{name}` IN ({', '.join(map(sql_literal, _each(value)))})"
        for name, value in where.items()
    )


def _each(value: Values) -> Sequence[Value]:
    return [value] if isinstance(value, str | date | int) else value


def sql_literal(value: Value) -> str:
    """The value as Spark SQL reads it."""
    if isinstance(value, date):
        return f"DATE'{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
