"""What is live, since when, from which data and model: one query, true right after a roll-back."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.config.places import PathsConfig
from recsys.contracts import ITEMS
from recsys.errors import ConfigError
from recsys.release.actions import actions_path
from recsys.release.pins import pin, roll_back, unpin
from recsys.release.pointer import pointer_path
from recsys.sql.duck import open_lake
from tests.release.making import NOON, make_release
from tests.release.shop import write_table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
LIVE = "SELECT release_id, since, set_at, pinned, reason, previous, epoch FROM live_release"
FROM_WHAT = (
    "SELECT run_date, model_version, model_as_of, table_versions['top_n_lists'] FROM live_release"
)
HOUR = timedelta(hours=1)


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    """A lake of one table: enough to be asked."""
    paths = PathsConfig(root=str(tmp_path))
    tea = dict(item_id="tea", valid_from=date(2024, 1, 1), title="GREEN TEA")
    write_table(Path(paths.lake_uri), ITEMS, [tea])
    return paths


def ask(paths: PathsConfig, sql: str) -> list[tuple[Any, ...]]:
    with open_lake(paths) as lake:
        return [tuple(row) for row in lake.query(sql)[1]]


def test_a_roll_back_shows_at_once_and_a_pin_does_not_make_a_release_younger(
    paths: PathsConfig,
) -> None:
    first, second = (make_release(paths, date(2024, 6, day)).release_id for day in (1, 2))
    assert ask(paths, LIVE) == [(second, NOON, NOON, False, "", first, 0)]
    assert ask(paths, FROM_WHAT) == [(date(2024, 6, 2), "m1", date(2024, 6, 2), 1)]

    roll_back(paths, None, reason="bad lists", now=NOON + HOUR)
    assert ask(paths, LIVE) == [(first, NOON + HOUR, NOON + HOUR, True, "bad lists", second, 1)]
    assert ask(paths, FROM_WHAT) == [(date(2024, 6, 1), "m1", date(2024, 6, 1), 1)]

    unpin(paths, reason="", now=NOON + 2 * HOUR)
    pin(paths, None, reason="sales week", now=NOON + 3 * HOUR)
    assert ask(paths, LIVE) == [
        (first, NOON + HOUR, NOON + 3 * HOUR, True, "sales week", second, 3)
    ]
    assert ask(paths, "SELECT action, epoch, done_at FROM release_actions ORDER BY done_at") == [
        ("rolled_back", 1, NOON + HOUR), ("unpinned", 2, NOON + 2 * HOUR), ("pinned", 3, NOON + 3 * HOUR),
    ]  # fmt: skip
    documented = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[-2:]
    [live], actions = (ask(paths, question) for question in documented)
    assert live[:4] == (first, NOON + HOUR, True, "sales week")
    assert [row[1] for row in actions] == ["pinned", "unpinned", "rolled_back"]


def test_without_a_readable_pointer_other_questions_are_answered(paths: PathsConfig) -> None:
    with pytest.raises(ConfigError, match="no table 'live_release'"):
        ask(paths, LIVE)
    make_release(paths)
    pointer_path(paths).write_text("{")
    with pytest.raises(ConfigError, match="no table 'live_release'"):
        ask(paths, LIVE)
    assert len(ask(paths, "SELECT * FROM items")) == 1


@pytest.mark.spark
def test_spark_sql_says_the_same(paths: PathsConfig, spark: Any) -> None:
    from recsys.lake import Lake
    from recsys.sql.spark import register_views

    make_release(paths, date(2024, 6, 1))
    make_release(paths, date(2024, 6, 2))
    roll_back(paths, None, reason="bad lists", now=NOON + HOUR)
    assert actions_path(paths).exists()
    with open_lake(paths) as lake:
        assert register_views(Lake(spark, paths), paths=paths) == lake.tables
    said = (LIVE.replace("since, set_at", "unix_micros(since), unix_micros(set_at)"), FROM_WHAT)
    for query, by_duckdb in zip(said, (LIVE, FROM_WHAT), strict=True):
        rows = [tuple(row) for row in spark.sql(query).collect()]
        wanted = [
            tuple(int(v.timestamp() * 1_000_000) if isinstance(v, datetime) else v for v in row)
            for row in ask(paths, by_duckdb)
        ]
        assert rows == wanted
