"""The nightly clean-up: what would go, and taking it away, store by store, with the bytes before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import structlog

from recsys.config import RecsysConfig
from recsys.contracts import CLEAN_UPS, TABLES
from recsys.failpoints import failpoint
from recsys.lake import Lake, local_rows, struct_type
from recsys.retention.holds import Holds, holds
from recsys.retention.stores import Store, old_releases, remove, size_of, stores, sweep_releases
from recsys.retention.tables import TablePlan, plan_table, trim

log = structlog.get_logger()

SHOWN = 100
RELEASES_STORE = "releases folder"


@dataclass(frozen=True)
class Cleaned:
    """What was done to one store."""

    store: str
    bytes_before: int
    bytes_after: int
    removed: tuple[str, ...]
    kept_because: str = ""
    """What keeps more than conf asks for."""


def clean_up(lake: Lake, config: RecsysConfig, run_date: date, *, now: datetime) -> list[Cleaned]:
    """Take away what is old, and write down what went.

    Each store is cleaned by itself, and nothing that is needed is ever away: killed at any place, the next run goes on.

    Raises:
        CorruptArtifact: nobody knows what is live; nothing was removed.
        ContractError: a manifest or a record cannot be read, so that nobody knows what it needs; nothing was removed.
    """
    needed = holds(config, run_date)
    # All is found before anything goes: a model goes by the records that name it.
    doomed = [(store, store.doomed(config, needed, now)) for store in stores(config.paths)]
    done = [_sweep(store, paths, needed) for store, paths in doomed]
    done.append(_sweep_releases(config))
    needed = holds(config, run_date)  # a release that has gone holds nothing any more
    for contract in TABLES.values():
        plan = plan_table(contract, lake.path(contract), config, needed, now)
        if plan:
            done.append(_trim(lake, plan, config, now))
    _write(lake, run_date, done, now)
    for one in done:
        if one.removed or one.bytes_after != one.bytes_before:
            log.info(
                "store_cleaned", store=one.store, bytes_before=one.bytes_before,
                bytes_after=one.bytes_after, removed=len(one.removed), kept_because=one.kept_because,
            )  # fmt: skip
    saved = sum(one.bytes_before - one.bytes_after for one in done)
    log.info("cleaned_up", megabytes=round(saved / 1e6, 1), stores=len(done))
    return done


def would_go(config: RecsysConfig, run_date: date, now: datetime) -> Iterator[str]:
    """A line for each thing that a clean-up now would take away; touches nothing, needs no JVM."""
    needed = holds(config, run_date)
    for job in needed.running:
        yield f"runs    {job}: folders are left alone, and files of tables that were needed when it began"
    for store in stores(config.paths):
        if not needed.running:
            old = store.doomed(config, needed, now)
            yield from (f"goes    {store.name}/{path.relative_to(store.folder)}" for path in old)
    yield from (f"goes    releases/{release_id}" for release_id in old_releases(config))
    root = config.paths.lake_uri.rstrip("/")
    for contract in TABLES.values():
        if plan := plan_table(contract, f"{root}/{contract.name}", config, needed, now):
            yield from (f"goes    {line}" for line in _lines(plan, config))


def _lines(plan: TablePlan, config: RecsysConfig) -> Iterator[str]:
    name = plan.contract.name
    yield from (f"{name} of {day}" for day in plan.days)
    if plan.small_files >= config.retention.small_files:
        yield f"{plan.small_files} small files of {name}, joined"
    yield from (f"{name}/{path}" for path in plan.files)


def _sweep(store: Store, doomed: list[Path], needed: Holds) -> Cleaned:
    """Remove what was found; nothing while a job runs, which may be about to read it."""
    before = size_of(store.folder)
    if needed.running:
        return Cleaned(store.name, before, before, (), f"{needed.running[0]} is running")
    for path in doomed:
        remove(path)
        failpoint("clean_up:folder-gone")
    names = tuple(str(path.relative_to(store.folder)) for path in doomed)
    return Cleaned(store.name, before, size_of(store.folder), names)


def _sweep_releases(config: RecsysConfig) -> Cleaned:
    folder = config.paths.releases
    before = size_of(folder)
    removed, because = sweep_releases(config)
    return Cleaned(RELEASES_STORE, before, size_of(folder), tuple(removed), because)


def _trim(lake: Lake, plan: TablePlan, config: RecsysConfig, now: datetime) -> Cleaned:
    before = lake_bytes(lake, plan)
    removed = trim(lake, plan, config, now)
    failpoint("clean_up:table-trimmed")
    after = lake_bytes(lake, plan) if removed else before
    return Cleaned(f"table {plan.contract.name}", before, after, tuple(removed), plan.held_by)


def lake_bytes(lake: Lake, plan: TablePlan) -> int:
    """All files below the table, its log included, wherever the lake is."""
    jvm: Any = lake.spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(plan.path)
    system = path.getFileSystem(lake.spark._jsc.hadoopConfiguration())
    return int(system.getContentSummary(path).getLength())


def _write(lake: Lake, run_date: date, done: list[Cleaned], now: datetime) -> None:
    rows = [
        (
            run_date, one.store, one.bytes_before, one.bytes_after, list(one.removed[:SHOWN]),
            one.kept_because, now,
        )
        for one in done
    ]  # fmt: skip
    lake.replace(
        local_rows(lake.spark, rows, struct_type(CLEAN_UPS)), CLEAN_UPS, {"run_date": run_date}
    )
