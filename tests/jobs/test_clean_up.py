"""clean_up: what is old goes, what a release or a running job needs stays, and a killed run is taken up again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import AnalysisException
from typer.testing import CliRunner

from jobs import clean_up
from recsys.config import RecsysConfig
from recsys.contracts import CLEAN_UPS, TOP_N_LISTS, USERS
from recsys.errors import ContractError
from recsys.locks import exclusive
from recsys.records import Recipe, ScoringRecord, TrainingRecord
from recsys.release.manifest import ReleaseManifest, TableVersion
from recsys.release.pointer import release_folder
from recsys.release.snapshot import MANIFEST_FILE
from recsys.retention.clean_up import would_go
from tests.release.making import make_release
from tests.release.shop import write_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.lake import Lake

NIGHT = date(2024, 6, 10)
NOW = datetime.now(UTC)
DELTAS_OWN_LIMIT = (
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration"
)


def before(days: int) -> date:
    return NIGHT - timedelta(days=days)


def a_model(config: RecsysConfig, version: str, as_of: date) -> None:
    folder = config.paths.models / version
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(b"x" * 1000)
    (folder / "manifest.json").write_text(
        json.dumps({"model_version": version, "as_of": str(as_of)})
    )


def a_file(path: Path, *, days: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))
    os.utime(path.parent, (moment, moment))


@pytest.fixture
def nights(config: RecsysConfig) -> RecsysConfig:
    """Folders as many nights leave them; the release that is live was made by model m1, long ago."""
    paths = config.paths
    make_release(paths, NIGHT, model_as_of=before(150))
    a_model(config, "m1", before(150))
    for version, days in (("new", 0), ("last_week", 7), ("old", 120), ("measuring_of_old", 148)):
        a_model(config, version, before(days))
    (paths.models / ".half_written.123").mkdir()
    for days, models in ((0, ["new"]), (7, ["last_week"]), (120, ["old", "measuring_of_old"])):
        named = dict(zip(("release", "measuring"), models, strict=False))
        TrainingRecord(
            run_date=before(days), trained=True, reason="due", models=named,
            fits={"release": f"{before(days)}-release-abc-2"},
        ).write(paths)  # fmt: skip
    for days in (0, 7, 120):
        (paths.checkpoints / f"{before(days)}-release-abc-2").mkdir(parents=True)
        ScoringRecord(
            run_date=before(days), model_version="m1", model_as_of=before(150), model_age_days=0,
            reason="", recipe=Recipe(name="blend"),
        ).write(paths)  # fmt: skip
    (paths.checkpoints / f"{before(130)}-choosing-given-up").mkdir()
    for days in (0, 89, 91):
        a_file(paths.reports / str(before(days)) / "steps.json")
    a_file(paths.reports / ".removing-2023-01-01" / "steps.json")
    a_file(paths.work / "scoring" / "kit-now" / "allowed.npy")
    a_file(paths.work / "scoring" / "kit-left" / "allowed.npy", days=9)
    a_file(paths.work / f"train-{before(120)}" / "spec.json", days=9)
    return config


GOES = {
    "checkpoints": {f"{before(120)}-release-abc-2", f"{before(130)}-choosing-given-up"},
    "models": {"old", "measuring_of_old", f"trained-{before(120)}.json", f"scored-{before(120)}.json"},
    "reports": {str(before(91)), ".removing-2023-01-01"},
    "work": {"scoring/kit-left", f"train-{before(120)}"},
}  # fmt: skip


def names(lines: Iterator[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in lines:
        store, _, name = line.removeprefix("goes    ").partition("/")
        found.setdefault(store, set()).add(name)
    return found


def on_disk(config: RecsysConfig) -> set[str]:
    root = config.paths.models.parent
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_dry_run_lists_what_would_go_and_touches_nothing(nights: RecsysConfig) -> None:
    there = on_disk(nights)
    assert names(would_go(nights, NIGHT, NOW)) == GOES
    arguments = ["--run-date", str(NIGHT), "--set", f"paths.root={nights.paths.root}", "--dry-run"]
    said = CliRunner().invoke(clean_up.app, arguments)
    assert said.exit_code == 0, said.output
    assert f"goes    reports/{before(91)}\n" in said.stdout
    assert on_disk(nights) == there


def test_where_nothing_would_go_a_dry_run_says_so(config: RecsysConfig) -> None:
    arguments = ["--run-date", str(NIGHT), "--set", f"paths.root={config.paths.root}", "--dry-run"]
    said = CliRunner().invoke(clean_up.app, arguments)
    assert said.exit_code == 0, said.output
    assert "\ngoes    nothing: " in said.stdout


def test_days_count_from_the_live_release_where_the_shop_stands_still(nights: RecsysConfig) -> None:
    assert names(would_go(nights, NIGHT + timedelta(days=400), NOW)) == GOES


def test_releases_beyond_those_that_conf_keeps_are_listed_but_not_the_live_one(
    config: RecsysConfig,
) -> None:
    made = [make_release(config.paths, before(days)).release_id for days in (9, 8, 7, 6, 5, 4)]
    kept = config.model_copy(update={"publish": config.publish.model_copy(update={"keep": 2})})
    assert names(would_go(kept, NIGHT, NOW)) == {"releases": set(made[:4])}
    make_release(config.paths, before(30))  # rolled back to, say
    assert names(would_go(kept, NIGHT, NOW)) == {"releases": set(made[:4])}


def test_while_a_job_runs_folders_are_left_alone(nights: RecsysConfig) -> None:
    lock = nights.paths.locks / f"run-train-{before(120)}.lock"
    with exclusive(lock, wait=False, what="train"):
        [line] = would_go(nights, NIGHT, NOW)
    assert line.startswith(f"runs    train of {before(120)}: folders are left alone")
    assert names(would_go(nights, NIGHT, NOW)) == GOES, "a lock that nobody holds is no job"


def test_nothing_goes_while_a_release_does_not_say_what_it_needs(nights: RecsysConfig) -> None:
    [folder] = [path for path in nights.paths.releases.iterdir() if path.is_dir()]
    (folder / MANIFEST_FILE).write_text("{")
    with pytest.raises(
        ContractError, match=r"nothing is cleaned up: the manifest of .* cannot be read"
    ):
        list(would_go(nights, NIGHT, NOW))


# Tables. The log's clock is turned back: Delta goes by what it says, VACUUM by the files' times, too.


def age(table: Path, days: float) -> None:
    """Make everything that lies in a table so much older."""
    millis = int(days * 86_400_000)
    for path in sorted(table.rglob("*")):
        if path.name.endswith(".crc"):
            path.unlink()  # Hadoop's of files that change here, and Delta's of versions
        elif path.parent.name == "_delta_log" and path.suffix == ".json":
            lines = [_older(json.loads(line), millis) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in table.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - days * 86400
            os.utime(path, (moment, moment))


def _older(action: Any, millis: int) -> Any:
    if not isinstance(action, dict):
        return action
    moments = {
        "timestamp",
        "inCommitTimestamp",
        "deletionTimestamp",
        "modificationTime",
        "createdTime",
    }
    return {k: v - millis if k in moments else _older(v, millis) for k, v in action.items()}


def write_day(lake: Lake, day: date, item: str) -> str:
    """One more version of top_n_lists; returns its file."""
    from recsys.lake import local_rows, struct_type

    lake.create(TOP_N_LISTS)
    rows = [("ana", day, [item], [1.0], ["model"], "m1")]
    df = local_rows(lake.spark, rows, struct_type(TOP_N_LISTS)).coalesce(1)
    writer = df.write.format("delta").mode("overwrite")
    writer.option("replaceWhere", f"as_of = DATE'{day}'").save(lake.path(TOP_N_LISTS))
    table = DeltaTable(lake.path(TOP_N_LISTS))
    [file] = [uri for uri in table.file_uris() if f"as_of={day}" in uri]
    return file


def forget(lake: Lake) -> None:
    """Spark keeps logs in memory; this one was changed behind its back."""
    jvm: Any = lake.spark._jvm
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def hold(config: RecsysConfig, manifest: ReleaseManifest, version: int) -> None:
    """Let a release on the shelf name this version of top_n_lists."""
    tables = {"top_n_lists": TableVersion(version=version, content_hash="", rows=1)}
    folder = release_folder(config.paths, manifest.release_id)
    (folder / MANIFEST_FILE).write_text(manifest.model_copy(update={"tables": tables}).to_json())


def items(lake: Lake, **at: Any) -> list[str]:
    return [i for row in lake.read(TOP_N_LISTS, **at).collect() for i in row["item_ids"]]


def is_too_old_for_delta(lake: Lake, version: int) -> bool:
    """Whether Delta as it comes would refuse to read the version."""
    lake.spark.conf.set(DELTAS_OWN_LIMIT, "true")
    try:
        with pytest.raises(AnalysisException, match="Cannot time travel beyond"):
            items(lake, version=version)
    finally:
        lake.spark.conf.set(DELTAS_OWN_LIMIT, "false")
    return True


@pytest.mark.spark
def test_versions_of_releases_stay_readable_and_what_nobody_needs_goes(
    spark: SparkSession, config: RecsysConfig
) -> None:
    from recsys.lake import Lake

    lake = Lake(spark, config.paths)
    path = Path(lake.path(TOP_N_LISTS))
    old_day = write_day(lake, before(60), "old")
    first = write_day(lake, before(3), "first")
    second = write_day(lake, before(3), "second")
    left = f"{path}/as_of={before(3)}/part-left-by-a-killed-writer.parquet"
    Path(left).write_bytes(b"x" * 500_000)
    age(path, 5)
    forget(lake)
    held = write_day(lake, before(3), "held")
    version = lake.version(TOP_N_LISTS)
    newest = write_day(lake, before(3), "newest")
    # Far more than what Delta keeps of removed files (a week) and of the log (a month).
    age(path, 40)
    forget(lake)
    release = make_release(config.paths, before(3))
    hold(config, release, version)
    dry = names(would_go(config, NIGHT, NOW))
    assert {f"as_of={before(3)}/{Path(first).name}"} < dry["top_n_lists"]
    assert f"top_n_lists of {before(60)}" in dry

    found = {one.store: one for one in clean_up.run(lake, config, before(3))}

    table = found["table top_n_lists"]
    assert table.kept_because == f"release {release.release_id}"
    assert not os.path.exists(first) and not os.path.exists(left)
    assert all(
        map(os.path.exists, (held, newest, second))
    )  # second: until the moment of the release
    assert os.path.exists(old_day), "removed tonight; readers may be in the middle of it"
    assert items(lake, version=version, as_of=before(3)) == ["held"]
    assert is_too_old_for_delta(lake, version)
    assert items(lake) == ["newest"], "the old day has gone"
    assert f"day {before(60)}" in table.removed
    assert table.bytes_after < table.bytes_before - 400_000
    kept = DeltaTable(str(path)).metadata().configuration["delta.logRetentionDuration"]
    assert kept == "interval 130 days", "or Delta would forget the version"
    rows = {row["store"]: row for row in lake.read(CLEAN_UPS).collect()}
    assert rows["table top_n_lists"]["bytes_before"] == table.bytes_before
    version_after = lake.version(TOP_N_LISTS)
    again = {one.store: one for one in clean_up.run(lake, config, before(3))}
    assert again["table top_n_lists"].removed == ()
    assert lake.version(TOP_N_LISTS) == version_after, "again is a no-op"

    # Another release is all there is: what the first one held goes.
    age(path, 8)
    forget(lake)
    hold(config, release, version_after)
    clean_up.run(lake, config, before(3))
    assert not os.path.exists(held) and not os.path.exists(second)
    assert os.path.exists(newest)
    assert items(lake) == ["newest"]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.mark.spark
def test_a_killed_run_is_taken_up_by_the_next_and_small_files_are_joined(
    spark: SparkSession, nights: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.lake import Lake

    lake = Lake(spark, nights.paths)
    root = Path(nights.paths.lake_uri)
    write_table(root, USERS, [dict(user_id="ana", valid_from=before(9))])
    [file] = DeltaTable(lake.path(USERS)).file_uris()
    for _ in range(2):
        write_deltalake(lake.path(USERS), pq.read_table(file), mode="append")
    retention = nights.retention.model_copy(update={"small_files": 3})
    config = nights.model_copy(update={"retention": retention})

    for place in ("folder-gone", "table-trimmed"):

        def failpoint(name: str, place: str = place) -> None:
            if name == f"clean_up:{place}":
                raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr("recsys.retention.clean_up.failpoint", failpoint)
            clean_up.run(lake, config, NIGHT)
    assert not lake.exists(CLEAN_UPS)
    clean_up.run(lake, config, NIGHT)

    assert names(would_go(config, NIGHT, NOW)) == {}
    kept = {path.name for path in nights.paths.models.iterdir()}
    assert {"m1", "new", "last_week", ".half_written.123"} <= kept
    assert not kept & GOES["models"]
    assert len(DeltaTable(lake.path(USERS)).file_uris()) == 1
    assert lake.read(USERS).count() == 3
