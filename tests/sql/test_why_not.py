"""Why an item is not shown, on the day of a full run and on the day after it, whose lists score_changes made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from recsys import contracts
from recsys.config.places import PathsConfig
from recsys.sql.duck import open_lake
from tests.release.shop import ITEM_NUMS, RUN_DATE, write_table

NEXT_DAY = RUN_DATE + timedelta(days=1)
QUESTION = "SELECT user_id, as_of, item_id, rank, stage, reason FROM why_not ORDER BY as_of, user_id, item_id"
SHOWN = (None, "shown")
ANSWERS: dict[tuple[str, str], Sequence[tuple[int | None, str]]] = {
    # on the day of the full run, and on the next one
    ("ana", "tea"): ((1, "seen"), (1, "seen")),
    ("ana", "cup"): (SHOWN, (1, "blocked")),
    ("ana", "pot"): ((None, "below_the_last_place"), SHOWN),
    ("bob", "tea"): ((None, "below_the_last_place"), (1, "returned")),  # sent back on the first day
    ("bob", "cup"): (SHOWN, (1, "blocked")),
    ("bob", "pot"): ((1, "returned"), (1, "returned")),  # the window stands still until a full run
}


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> PathsConfig:
    """An increment writes lists and rules; numbers and seen items stay those of the full run."""
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("two_days")))
    root = Path(paths.lake_uri)
    since = RUN_DATE - timedelta(days=100)
    items = [dict(item_id=item, valid_from=since, title=item) for item in ITEM_NUMS]
    write_table(root, contracts.ITEMS, items)
    write_table(root, contracts.USERS, [dict(user_id="ana", valid_from=since, segment="France")])
    older = RUN_DATE - timedelta(days=56)  # a cut-off of evaluation
    numbers = [
        dict(kind="item", version=version, id=item, num=num + shift)
        for version, shift in ((RUN_DATE, 0), (older, 7))
        for item, num in ITEM_NUMS.items()
    ]
    write_table(root, contracts.VOCABULARIES, numbers)
    seen: list[dict[str, Any]] = [
        dict(user_id="ana", item_nums=[ITEM_NUMS["tea"]]),
        dict(user_id="ana", item_nums=[ITEM_NUMS["pot"] + 7], as_of=older),
    ]
    write_table(root, contracts.SEEN_ITEMS, seen)
    write_table(
        root, contracts.EVENTS, [_return("bob", "pot", -2), _return("bob", "tea", 0)]
    )  # days after the full run
    write_table(root, contracts.TOP_N_LISTS, [
        _list("ana", RUN_DATE, "cup"), _list("bob", RUN_DATE, "cup"),
        _list("ana", NEXT_DAY, "pot"), _list("bob", NEXT_DAY),
    ])  # fmt: skip
    write_table(root, contracts.RULES, [
        *(_rule("seen", day, None) for day in (RUN_DATE, NEXT_DAY)),
        *(_rule("returned", day, 2.0) for day in (RUN_DATE, NEXT_DAY)),
        _rule("blocked", NEXT_DAY, None, "cup"),
    ])  # fmt: skip
    return paths


def _return(user: str, item: str, days: int) -> dict[str, Any]:
    day = RUN_DATE + timedelta(days=days)
    return dict(
        event_id=f"{user} {item}", event_type="return", user_id=user, item_id=item, event_date=day,
        event_ts=datetime(day.year, day.month, day.day, 12, tzinfo=UTC), quantity=Decimal(1),
        unit_price=Decimal(2),
    )  # fmt: skip


def _list(user: str, as_of: object, *items: str) -> dict[str, Any]:
    return dict(
        user_id=user, as_of=as_of, item_ids=list(items), scores=[1.0] * len(items),
        sources=["model"] * len(items), model_version="m1",
    )  # fmt: skip


def _rule(rule: str, as_of: object, threshold: float | None, *items: str) -> dict[str, Any]:
    return dict(
        rule=rule, as_of=as_of, segment="", stage=1, definition="{}", threshold=threshold,
        item_ids=list(items), num_items=len(items), num_items_alone=0,
    )  # fmt: skip


def wanted() -> list[tuple[Any, ...]]:
    return [
        (user, day, item, 1 if reason == "shown" else None, stage, reason)
        for n, day in enumerate((RUN_DATE, NEXT_DAY))
        for (user, item), of_days in sorted(ANSWERS.items())
        for stage, reason in [of_days[n]]
    ]


def test_the_day_after_a_full_run_has_answers_by_its_numbers_seen_items_and_windows(
    two_days: PathsConfig,
) -> None:
    with open_lake(two_days) as lake:
        assert [tuple(row) for row in lake.query(QUESTION)[1]] == wanted()


@pytest.mark.spark
def test_spark_sql_gives_the_same_answers(two_days: PathsConfig, spark: Any) -> None:
    from recsys.lake import Lake
    from recsys.sql.spark import register_views

    register_views(Lake(spark, two_days))
    assert [tuple(row) for row in spark.sql(QUESTION).collect()] == wanted()
