"""A source's raw rows as one frame, whatever their format: file, place, text, key and the raw columns."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.errors import MissingInput, Refused
from recsys.ingest.description import SourceDescription
from recsys.ingest.files import (
    SourceFile,
    absolute,
    check_columns,
    find_files,
    parquet_rows,
    path_below,
)
from recsys.ingest.text_rows import FILE, POSITION, PROBLEM, RAW_ROW, ROW_KEY, TextReader

log = structlog.get_logger()

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""How Spark and Hive name the partition of rows without a value."""

_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBERS = (*_WHOLE, T.FloatType, T.DoubleType, T.DecimalType)
_TIMES = (T.TimestampType, T.TimestampNTZType)


@dataclass(frozen=True)
class RawRows:
    """What was found, not yet judged."""

    description: SourceDescription
    rows: DataFrame
    """FILE, POSITION, RAW_ROW, ROW_KEY, PROBLEM and the raw columns (text, or as the format types them)."""
    unit_names: tuple[str, ...]
    counted: dict[str, int]
    """Rows per unit, counted apart from ``rows``; empty for text, where the reader itself counts."""
    unexpected: dict[str, list[str]]
    """Columns that are there and not described, per unit."""


def read_raw_rows(spark: SparkSession, description: SourceDescription) -> RawRows:
    """Find and open everything the description's pattern or table names.

    Raises:
        MissingInput: nothing is there.
        Refused: a column is missing or has another type; the file breaks off.
    """
    if description.format.type in {"delta", "table"}:
        return _table_rows(spark, description)
    files = find_files(description)
    unexpected = {file.name: check_columns(description, file) for file in files}
    log.info("source_found", source=description.name, files=len(files))
    if description.format.is_text:
        return _text_rows(spark, description, files, unexpected)
    return _parquet_rows(spark, description, files, unexpected)


def _text_rows(
    spark: SparkSession,
    description: SourceDescription,
    files: list[SourceFile],
    unexpected: dict[str, list[str]],
) -> RawRows:
    reader = TextReader(
        description.name,
        description.format,
        tuple(description.raw_columns),
        description.key,
        tuple(files),
    )
    schema = T.StructType(
        [
            T.StructField(f.name, T.LongType() if f.name == POSITION else T.StringType())
            for f in reader.schema
        ]
    )
    # One task per file, until there are so many that starting tasks costs more than reading.
    tasks = min(len(files), 8 * spark.sparkContext.defaultParallelism)
    rows = spark.range(len(files), numPartitions=tasks).mapInArrow(reader.map_in_arrow(), schema)
    return RawRows(description, rows, tuple(f.name for f in files), {}, unexpected)


def _parquet_rows(
    spark: SparkSession,
    description: SourceDescription,
    files: list[SourceFile],
    unexpected: dict[str, list[str]],
) -> RawRows:
    counted = {file.name: parquet_rows(file) for file in files}
    frames: dict[tuple[str, ...], list[SourceFile]] = {}
    for file in files:  # files whose extra columns differ are read apart: their keys differ
        frames.setdefault(tuple(unexpected[file.name]), []).append(file)
    parts = []
    for group in frames.values():
        loaded = spark.read.parquet(*(file.path for file in group))
        check_types(description, loaded, group[0].name)
        last_parts = [f.path.rpartition("/")[2] for f in group]
        if len(set(last_parts)) == len(group):
            keys, key = last_parts, "_metadata.file_name"
        else:  # one name in several folders: told apart by the whole path
            keys, key = [_uri(f.path) for f in group], "_metadata.file_path"
        names = zip(keys, (f.name for f in group), strict=True)
        file_name = F.create_map(*[F.lit(x) for pair in names for x in pair])[F.col(key)]
        parts.append(_typed_frame(description, loaded, file_name, F.col("_metadata.row_index")))
    rows = parts[0]
    for part in parts[1:]:
        rows = rows.unionByName(part)
    return RawRows(description, rows, tuple(counted), counted, unexpected)


def _table_rows(spark: SparkSession, description: SourceDescription) -> RawRows:
    try:
        if description.format.type == "table":
            loaded = spark.table(description.table)
        else:
            loaded = spark.read.format("delta").load(absolute(description.pattern))
    except AnalysisException as error:
        raise MissingInput(
            f"source {description.name!r}: no table {description.table or description.pattern!r} "
            f"({str(error).splitlines()[0][:200]}): make it, or mend the source's description"
        ) from None
    place = description.table or description.pattern
    missing = [name for name in description.raw_columns if name not in loaded.columns]
    if missing or (description.partition and description.partition not in loaded.columns):
        raise Refused(
            f"source {description.name!r}, table {place}: no column {(missing or [description.partition])[0]!r}. "
            f"Columns in the table: {', '.join(loaded.columns[:20])}. Nothing was written"
        )
    check_types(description, loaded, place)
    if description.partition_value:
        loaded = _one_partition(description, loaded)
    unit = _unit_of_table(description)
    counts = loaded.groupBy(unit.alias("unit")).count().orderBy("unit").collect()
    counted = {str(row["unit"]): int(row["count"]) for row in counts}
    if description.partition_value and not counted:
        raise MissingInput(
            f"source {description.name!r}: table {place} has no row with {description.partition}="
            f"{description.partition_value}: deliver it, or mend `partition_value` in the source's description"
        )
    unexpected = [
        n for n in loaded.columns if n not in description.raw_columns and n != description.partition
    ]
    rows = _typed_frame(description, loaded, unit, None)
    return RawRows(
        description, rows, tuple(counted), counted, {unit: unexpected for unit in counted}
    )


def _one_partition(description: SourceDescription, loaded: DataFrame) -> DataFrame:
    # The value takes the column's type, not the column the value's: so Spark leaves other partitions unread.
    type_ = loaded.schema[description.partition].dataType
    value = F.lit(description.partition_value).try_cast(type_)
    return loaded.where(F.col(f"`{description.partition}`") == value)


def _unit_of_table(description: SourceDescription) -> Column:
    """The unit that a row belongs to: a value of the partition column, or the folder or table as a whole."""
    below = path_below(description, absolute(description.pattern)) if description.pattern else ""
    if not description.partition:
        place = description.table or description.pattern
        return F.lit(below or place.rstrip("/").rpartition("/")[2])
    value = F.coalesce(F.col(f"`{description.partition}`").cast("string"), F.lit(NO_PARTITION))
    prefix = f"{below}/" if below else ""
    return F.concat(F.lit(f"{prefix}{description.partition}="), value)


def _typed_frame(
    description: SourceDescription, loaded: DataFrame, unit: Column, position: Column | None
) -> DataFrame:
    key = [F.col(f"`{name}`") for name in description.key or sorted(loaded.columns)]
    everything = F.to_json(F.struct(*[F.col(f"`{name}`") for name in sorted(loaded.columns)]))
    # to_json names each value and leaves nulls out, so that different rows have different texts.
    text = F.concat_ws("\x1f", F.lit(description.name), unit, F.to_json(F.struct(*key)))
    return loaded.select(
        unit.alias(FILE),
        # A table has no order of its own: rows with one key are ordered by their content.
        (F.xxhash64(everything).bitwiseAND((1 << 62) - 1) if position is None else position).alias(
            POSITION
        ),
        everything.alias(RAW_ROW),
        F.substring(F.sha2(text, 256), 1, 32).alias(ROW_KEY),
        F.lit(None).cast("string").alias(PROBLEM),
        *[F.col(f"`{name}`") for name in description.raw_columns],
    )


def check_types(description: SourceDescription, loaded: DataFrame, where: str) -> None:
    """Refuse a typed source whose columns have types that the described ones cannot be made of."""
    problems = []
    for name, wanted in description.raw_columns.items():
        found = loaded.schema[name].dataType
        if not _fits(wanted, found):
            problems.append(
                f"column {name!r} is {found.simpleString()}, the description says {wanted}"
            )
    if problems:
        raise Refused(
            f"source {description.name!r}, file {where}: " + "\n  ".join(problems)
            + "\n  Nothing was written. Have it delivered as described, or mend `raw_columns` in the description"
        )  # fmt: skip


def _fits(wanted: str, found: T.DataType) -> bool:
    if isinstance(found, T.StringType):
        return True  # text is parsed as text files' is
    if wanted in {"int", "bigint"}:
        return isinstance(found, _WHOLE)
    if wanted == "double" or wanted.startswith("decimal"):
        return isinstance(found, _NUMBERS)
    if wanted == "string":  # a float would turn 13085 into 13085.0
        return isinstance(found, (*_WHOLE, T.BooleanType, T.DateType))
    if wanted == "timestamp":
        return isinstance(found, _TIMES)
    return isinstance(found, T.DateType if wanted == "date" else T.BooleanType)


def _uri(path: str) -> str:
    return path if "://" in path else f"file://{path}"
