"""Tables: old days, small files, and files that no version needs any more."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from delta.tables import DeltaTable as SparkDeltaTable
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from recsys.config import RecsysConfig
from recsys.config.retention import day_column
from recsys.contracts import TableContract
from recsys.lake import Lake, local_rows, sql_literal
from recsys.retention.holds import Holds, before

log = structlog.get_logger()

SMALL_FILE_BYTES = 64 << 20
LOG_PROPERTY = "delta.logRetentionDuration"
LOG_DAYS = 30
"""What Delta keeps of a table's log where the table says nothing else."""
LOG_STEP_DAYS = 90
"""By how much more than is needed the log is kept longer, so that this is a commit a season, not a night."""

# VACUUM takes no retention time from its caller unless it is told to, and logs two commits each time.
VACUUM_SETTINGS = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    "spark.databricks.delta.vacuum.logging.enabled": "false",
}


@dataclass(frozen=True)
class TablePlan:
    """What would go from one table, found in its log alone."""

    contract: TableContract
    path: str
    days: tuple[date, ...]
    """Days whose rows go."""
    small_files: int
    """Small files of the partition that has most of them, where the table is one to be joined."""
    cut_off: datetime
    """Files that were needed at this moment, or written since, stay."""
    files: tuple[str, ...]
    """Data files that no version needs that is held or newer than ``cut_off``; relative to the table."""
    log_days: int
    """Days that the log has to be kept for; 0: it is kept for long enough."""
    held_by: str
    """What keeps files that are older than conf asks for."""


def plan_table(
    contract: TableContract, path: str, config: RecsysConfig, holds: Holds, now: datetime
) -> TablePlan | None:
    """What would go; None where there is no such table. Reads the table's log, no JVM needed."""
    try:
        table = DeltaTable(path)
    except TableNotFoundError:
        return None
    except DeltaError as error:  # the audit says more; the other tables are cleaned up all the same
        log.warning("table_not_cleaned_up", table=contract.name, reason=str(error)[:200])
        return None
    retention = config.retention
    cut_off, held_by = now - timedelta(hours=retention.vacuum_hours), ""
    if (since := holds.running_since) and since < cut_off:
        cut_off, held_by = since, f"{holds.running[0]} is running"
    times, held, log_days = _commit_times(table), holds.versions(contract.name), 0
    for version in held.keys() & times.keys():
        at = times[version]
        if at < cut_off:
            cut_off, held_by = at, f"release {held[version]}"
        log_days = max(log_days, _log_days(table, (now - at).days))
    try:
        files = unneeded_files(table, tuple(held), now - cut_off)
    except DeltaError as error:
        # What a release needs is not known, so that nothing may go; the audit says what is wrong with it.
        files, held_by = (), f"a version that a release names cannot be read: {str(error)[:200]}"
        log.warning("table_not_vacuumed", table=contract.name, reason=held_by)
    optimized = contract.name in retention.optimize
    return TablePlan(
        contract=contract,
        path=path,
        days=old_days(contract, table, config, holds),
        small_files=_small_files(table) if optimized else 0,
        cut_off=cut_off,
        files=files,
        log_days=log_days,
        held_by=held_by,
    )


def old_days(
    contract: TableContract, table: DeltaTable, config: RecsysConfig, holds: Holds
) -> tuple[date, ...]:
    """Days whose rows go: none that something may read, and not the newest."""
    column, kept = day_column(contract), config.retention.days.get(contract.name)
    if column is None or kept is None:
        return ()
    found = {date.fromisoformat(part[column]) for part in table.partitions()}
    oldest = min(before(holds.reference, kept), holds.first_day)
    stay = holds.days | {max(found, default=oldest)}
    return tuple(sorted(day for day in found if day < oldest and day not in stay))


def _small_files(table: DeltaTable) -> int:
    """In the partition with most of them."""
    files = table.get_add_actions(flatten=True)
    folders = Counter(
        os.path.dirname(path)
        for path, size in zip(*(files.column(n).to_pylist() for n in ("path", "size_bytes")), strict=True)
        if size < SMALL_FILE_BYTES
    )  # fmt: skip
    return max(folders.values(), default=0)


def _commit_times(table: DeltaTable) -> dict[int, datetime]:
    return {
        entry["version"]: datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
        for entry in table.history()
        if "timestamp" in entry
    }


def _log_days(table: DeltaTable, age_days: int) -> int:
    """What the log has to be kept for, where it is not."""
    said = table.metadata().configuration.get(LOG_PROPERTY, f"interval {LOG_DAYS} days")
    kept = int(next((word for word in said.split() if word.isdigit()), LOG_DAYS))
    return age_days + LOG_STEP_DAYS if age_days + LOG_DAYS // 2 > kept else 0


def unneeded_files(
    table: DeltaTable, held: Sequence[int], older_than: timedelta
) -> tuple[str, ...]:
    """Files that neither the newest version nor a held one needs, nor any that is not old enough.

    Raises:
        DeltaError: a held version cannot be read, so nobody knows what it needs.
    """
    found = table.vacuum(
        retention_hours=whole_hours(older_than), dry_run=True, enforce_retention_duration=False, full=True,
        keep_versions=sorted(held),
    )  # fmt: skip
    # It names removed files from the log, those that are gone already among them.
    there = files_below(table.table_uri)
    return tuple(sorted(p for p in found if p in there and not os.path.basename(p).startswith(".")))


def files_below(location: str) -> set[str]:
    """Every file of a table, relative to it."""
    system, root = url_to_fs(location, use_listings_cache=False)
    return {file.removeprefix(root.rstrip("/") + "/") for file in system.find(root)}


def whole_hours(age: timedelta) -> int:
    """Both engines take hours; rounded up, so that what was needed at that moment stays."""
    return -(-age // timedelta(hours=1))


def trim(lake: Lake, plan: TablePlan, config: RecsysConfig, now: datetime) -> list[str]:
    """Do what the plan says; returns what went. Killed half-way, the next run does the rest."""
    contract, done = plan.contract, []
    spark = lake.spark
    if plan.log_days:
        with lake.commit_lock(contract):
            spark.sql(
                f"ALTER TABLE delta.`{plan.path}` SET TBLPROPERTIES "
                f"('{LOG_PROPERTY}' = 'interval {plan.log_days} days')"
            )
    if plan.days:
        days = ", ".join(map(sql_literal, plan.days))
        with lake.commit_lock(contract):
            SparkDeltaTable.forPath(spark, plan.path).delete(f"{day_column(contract)} IN ({days})")
        done += [f"day {day}" for day in plan.days]
    if plan.small_files >= config.retention.small_files:
        with lake.commit_lock(contract):
            SparkDeltaTable.forPath(spark, plan.path).optimize().executeCompaction()
    if plan.files:
        done += [f"file {path}" for path in vacuum(lake, plan, now)]
    return done


def vacuum(lake: Lake, plan: TablePlan, now: datetime) -> list[str]:
    """Remove those of the plan's files that Delta, too, takes for unneeded; returns them.

    VACUUM alone goes by time, and forgets after ``delta.deletedFileRetentionDuration`` which files were removed when
    (delta-io/delta issue 140): a release that is pinned for longer would lose its files. So it is given the files.
    """
    spark = lake.spark
    root = plan.path if "://" in plan.path else f"file:{plan.path}"
    hours = whole_hours(now - plan.cut_off)
    # Older than that they are, delta-rs has looked; what they were needed for, each engine judges for itself.
    millis = int((now - timedelta(hours=hours, seconds=1)).timestamp() * 1000)
    schema = "path string, length bigint, isDir boolean, modificationTime bigint"
    files = local_rows(spark, [(f"{root}/{path}", 0, False, millis) for path in plan.files], schema)
    files.createOrReplaceTempView("clean_up_files")
    command = f"VACUUM delta.`{plan.path}` USING INVENTORY (SELECT * FROM clean_up_files) RETAIN {hours} HOURS"
    with _settings(spark, VACUUM_SETTINGS), lake.commit_lock(plan.contract):
        spark.sql(command)
    spark.catalog.dropTempView("clean_up_files")
    left = files_below(plan.path)
    return [path for path in plan.files if path not in left]


@contextmanager
def _settings(spark: Any, settings: dict[str, str]) -> Iterator[None]:
    before_ = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before_.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
