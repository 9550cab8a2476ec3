"""The section retention: what conf may say, and what it leaves as it is."""

from __future__ import annotations

import pytest

from recsys.config import load_config
from recsys.config.retention import DEFAULT_DAYS, RetentionConfig, day_column
from recsys.contracts import TABLES
from recsys.errors import ConfigError


def test_conf_names_what_it_changes_and_the_other_tables_keep_their_days() -> None:
    days = load_config(
        "local", ["retention.days={top_n_lists: 90, histories: null}"]
    ).retention.days
    assert days == DEFAULT_DAYS | {"top_n_lists": 90, "histories": None}


def test_every_table_that_grows_by_days_has_a_default() -> None:
    by_day = {name for name, contract in TABLES.items() if day_column(contract)}
    assert set(DEFAULT_DAYS) == by_day


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("retention.days={top_n: 9}", "no table 'top_n'; tables are events"),
        ("retention.days={events: 9}", "table 'events' is not partitioned by a day"),
        ("retention.optimize=[evnts]", "no table 'evnts'"),
        ("retention.day={}", "did you mean 'retention.days'"),
    ],
)
def test_a_slip_is_named(said: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("local", [said])


def test_what_is_kept_by_default_covers_a_night_that_trained_a_week_ago() -> None:
    from recsys.config import RecsysConfig

    cut_offs = RecsysConfig().evaluation.window_days * 2
    assert RetentionConfig().days["histories"] == cut_offs + 7
