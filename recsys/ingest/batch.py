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
_SMALL = 50_000  # rows that one file may hold without a second core being missed


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
        written = _write(lake, sources, replaced, sum(f.accepted for f in files))
    rows = quality_rows(files, findings, run_date, config.ingest.max_quarantined_share)
    quality = local_rows(lake.spark, rows, struct_type(DATA_QUALITY))
    written.append(
        lake.replace(quality.coalesce(1), DATA_QUALITY, {"run_date": run_date, "job": JOB})
    )
    return Ingested(tuple(files), tuple(findings), tuple(written))


def _judged(raw: RawRows, config: RecsysConfig, run_date: date, cached: ExitStack) -> _Judged:
    rows = judge_rows(raw, config, run_date).persist(StorageLevel.MEMORY_AND_DISK)
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
    kept = lake.read_or_empty(EVENTS).where(f"NOT ({replaced})").select("event_date", "attributes")
    new = [s.accepted.select("event_date", "attributes") for s in sources if _of_kind(s, "events")]
    settings = config.ingest.volume
    counts = volume.count_days(
        reduce(DataFrame.unionAll, new, kept), volume.judged_days(run_date, settings)
    )
    findings = volume.judge_volume(counts, run_date, settings)
    if config.ingest.accept_volume:
        findings = volume.accept(findings, config.ingest.accept_volume)
    else:
        refused = any(f.verdict == "refused" for f in findings)
        volume.refuse(findings, run_date, live() if refused else None)
    for f in findings:
        if f.verdict != "ok":
            log.warning(
                "volume_noted", segment=f.segment, found=f.found, verdict=f.verdict, reason=f.reason
            )
    return findings


def _write(lake: Lake, sources: list[_Judged], replaced: str, accepted: int) -> list[Written]:
    events = [s.accepted for s in sources if _of_kind(s, "events")]
    items = [s.accepted for s in sources if _of_kind(s, "items")]
    items += [
        items_from_events(s.accepted, s.raw.description) for s in sources if s.raw.description.items
    ]
    users = [s.accepted for s in sources if _of_kind(s, "users")]
    users += [users_from_events(s.accepted) for s in sources if s.raw.description.segment]

    def replace(parts: list[DataFrame], contract: TableContract, tasks: int = 1) -> Written:
        named = [part.select(*contract.column_names) for part in parts]
        rows = reduce(DataFrame.unionAll, named) if named else lake.read_or_empty(contract).limit(0)
        by_time = "event_ts" if contract is EVENTS else contract.key[0]
        if tasks > 1:
            rows = rows.repartitionByRange(tasks, by_time)
        else:
            rows = rows.coalesce(1)
        rows = rows.sortWithinPartitions(by_time, contract.key[-1])
        return lake.replace_where(rows, contract, predicate=replaced, where=F.expr(replaced))

    parallel = lake.spark.sparkContext.defaultParallelism
    tasks = 1 if accepted < _SMALL else max(parallel, -(-accepted // ROWS_PER_FILE))
    written = [replace(events, EVENTS, tasks)]
    written.append(replace(items, ITEMS))
    written.append(replace(users, USERS))
    written.append(replace([_quarantine(s.rows) for s in sources], QUARANTINE))
    return written


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
