"""All sources of one run: read, judge, check, and only then write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import reduce

import structlog
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from recsys.config import RecsysConfig
from recsys.contracts import DATA_QUALITY, EVENTS, ITEMS, QUARANTINE, USERS, TableContract
from recsys.errors import MissingInput
from recsys.ingest import volume
from recsys.ingest.derived import items_from_events, users_from_events
from recsys.ingest.descriptions import read_descriptions
from recsys.ingest.judged_rows import ACCEPTED, QUARANTINED, REASONS, STATUS, judge_rows
from recsys.ingest.quality import (
    JOB,
    FileCounts,
    check_counts,
    count_rows,
    quality_rows,
    reconciliation,
)
from recsys.ingest.raw_rows import RawRows, read_raw_rows
from recsys.ingest.text_rows import POSITION, RAW_ROW
from recsys.lake import Lake, Written, local_rows, sql_literal, struct_type

log = structlog.get_logger()

ROWS_PER_FILE = 1_000_000
ROWS_PER_TASK = 50_000
"""Rows that one core writes before a second is missed."""


@dataclass(frozen=True)
class Ingested:
    """What came in."""

    files: tuple[FileCounts, ...]
    volume: tuple[volume.Finding, ...]
    written: tuple[Written, ...]

    def __str__(self) -> str:
        return reconciliation(list(self.files))


@dataclass(frozen=True)
class _Judged:
    raw: RawRows
    rows: DataFrame

    @property
    def accepted(self) -> DataFrame:
        return self.rows.where(F.col(STATUS) == ACCEPTED)


def ingest_sources(
    lake: Lake, config: RecsysConfig, run_date: date, live: Callable[[], str | None] = lambda: None
) -> Ingested:
    """Replace the rows of every file that the configured sources match, in all tables that ingest writes.

    ``live`` names the release that keeps serving when this one is refused. Nothing is written until every
    file was read to its end, the counts add up, and the volume of the day before the run date is as usual
    (or was accepted with a reason).

    Raises:
        ConfigError, MissingInput, Refused, CorruptArtifact, ContractError: see the steps; nothing was written.
    """
    descriptions = read_descriptions(config, run_date)
    with ExitStack() as cached:
        sources = [
            _judged(read_raw_rows(lake.spark, d), config, run_date, cached) for d in descriptions
        ]
        files = [f for source in sources for f in count_rows(source.rows, source.raw)]
        judged = {source.raw.description.name: source.rows for source in sources}
        check_counts(files, judged, config.ingest.max_quarantined_share)
        for f in files:
            log.info(
                "file_judged", source=f.source, file=f.file, raw=f.raw, accepted=f.accepted,
                quarantined=f.quarantined, duplicates=f.duplicates,
            )  # fmt: skip
        if not files:
            names = ", ".join(one.name for one in descriptions)
            raise MissingInput(f"no rows in the tables of the sources {names}: nothing to ingest")
        replaced = _predicate(files)
        findings = _check_volume(lake, config, run_date, sources, replaced, live=live)
        written = _write(lake, sources, replaced, cached)
    rows = quality_rows(files, findings, run_date, config.ingest.max_quarantined_share)
    quality = local_rows(lake.spark, rows, struct_type(DATA_QUALITY))
    written.append(
        lake.replace(quality.coalesce(1), DATA_QUALITY, {"run_date": run_date, "job": JOB})
    )
    return Ingested(tuple(files), tuple(findings), tuple(written))


def _judged(raw: RawRows, config: RecsysConfig, run_date: date, cached: ExitStack) -> _Judged:
    rows = judge_rows(raw, config, run_date).persist(StorageLevel.MEMORY_AND_DISK_DESER)
    cached.callback(rows.unpersist)
    return _Judged(raw, rows)


def _predicate(files: list[FileCounts]) -> str:
    """SQL that holds for the rows of exactly these files."""
    by_source: dict[str, list[str]] = {}
    for f in files:
        by_source.setdefault(f.source, []).append(sql_literal(f.file))
    return " OR ".join(
        f"(source = {sql_literal(source)} AND source_file IN ({', '.join(names)}))"
        for source, names in by_source.items()
    )


def _check_volume(
    lake: Lake,
    config: RecsysConfig,
    run_date: date,
    sources: list[_Judged],
    replaced: str,
    *,
    live: Callable[[], str | None],
) -> list[volume.Finding]:
    """Judge what the events table would hold: what is there, without what is replaced, and what is new."""
    columns = ("event_date", "source", "attributes")
    kept = lake.read_or_empty(EVENTS).where(f"NOT ({replaced})").select(*columns)
    delivering = [s for s in sources if _of_kind(s, "events")]
    new = [s.accepted.select(*columns) for s in delivering]
    settings = config.ingest.volume
    days = volume.judged_days(run_date, settings)
    counts = volume.count_days(reduce(DataFrame.unionAll, new, kept), days)
    apart = volume.judged_apart([s.raw.description for s in delivering], days[0])
    findings = volume.judge_volume(counts, run_date, settings, apart)
    if config.ingest.accept_volume:
        findings = volume.accept(findings, config.ingest.accept_volume)
    else:
        refused = any(f.verdict == "refused" for f in findings)
        volume.refuse(findings, run_date, live() if refused else None)
    for f in findings:
        if f.verdict != "ok":
            log.warning(
                "volume_noted", part=str(f.part), found=f.found, verdict=f.verdict, reason=f.reason
            )
    return findings


def _write(lake: Lake, sources: list[_Judged], replaced: str, cached: ExitStack) -> list[Written]:
    def derived(rows: DataFrame) -> DataFrame:
        # Counted to size its write, then written: worked out once.
        kept = rows.persist(StorageLevel.MEMORY_AND_DISK_DESER)
        cached.callback(kept.unpersist)
        return kept

    events = [s.accepted for s in sources if _of_kind(s, "events")]
    items = [s.accepted for s in sources if _of_kind(s, "items")]
    items += [
        derived(items_from_events(s.accepted, s.raw.description))
        for s in sources
        if s.raw.description.items
    ]
    users = [s.accepted for s in sources if _of_kind(s, "users")]
    users += [derived(users_from_events(s.accepted)) for s in sources if s.raw.description.segment]
    quarantined = [_quarantine(s.rows) for s in sources]
    parallel = lake.spark.sparkContext.defaultParallelism

    def replace(parts: list[DataFrame], contract: TableContract) -> Written:
        named = [part.select(*contract.column_names) for part in parts]
        rows = reduce(DataFrame.unionAll, named) if named else lake.read_or_empty(contract).limit(0)
        order = ("event_ts", *contract.key) if contract is EVENTS else contract.key
        tasks = write_tasks(rows.count(), parallel)
        spread = rows.repartitionByRange(tasks, *order) if tasks > 1 else rows.coalesce(1)
        ordered = spread.sortWithinPartitions(*order)
        return lake.replace_where(ordered, contract, predicate=replaced, where=F.expr(replaced))

    return [
        replace(events, EVENTS),
        replace(items, ITEMS),
        replace(users, USERS),
        replace(quarantined, QUARANTINE),
    ]


def write_tasks(rows: int, parallel: int) -> int:
    """Tasks, and so files, for a table of ``rows``: as many of the ``parallel`` cores as have work."""
    return max(1, min(parallel, rows // ROWS_PER_TASK), -(-rows // ROWS_PER_FILE))


def _quarantine(judged: DataFrame) -> DataFrame:
    refused = judged.where(F.col(STATUS) == QUARANTINED).select(
        "source", "source_file", POSITION,
        F.substring(F.sha2(RAW_ROW, 256), 1, 32).alias("row_hash"),
        F.col(RAW_ROW).alias("raw_row"),
        F.col(REASONS).alias("reasons"),
    )  # fmt: skip
    same = Window.partitionBy("source", "source_file", "row_hash").orderBy(POSITION)
    return refused.withColumn("copy", F.row_number().over(same) - 1)


def _of_kind(source: _Judged, kind: str) -> bool:
    return source.raw.description.kind == kind
