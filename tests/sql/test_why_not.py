"""Why an item is not shown, on the day of a full run and on the days after it, whose lists score_changes made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from recsys import contracts
from recsys.blocked import block_item, blocked_path, copy_path
from recsys.config.places import PathsConfig
from recsys.records import ScoringRecord
from recsys.release.manifest import ReleaseInputs
from recsys.release.pointer import pointer_path, release_folder
from recsys.sql.duck import open_lake
from recsys.sql.recorded import scored_days
from tests.release.making import NOON, make_release
from tests.release.shop import ITEM_NUMS, RUN_DATE, write_scoring_record, write_table

NEXT_DAY, LAST_DAY = (RUN_DATE + timedelta(days=n) for n in (1, 2))
NUMS = ITEM_NUMS | {"jam": 4, "bun": 5}
QUESTION = "SELECT user_id, as_of, item_id, rank, stage, reason FROM why_not ORDER BY as_of, user_id, item_id"
BEHIND, FULL = "below_the_last_place", "max_per_category"
OFF = "blocked, blocked_now"
A_TEA_ALONE: dict[str, str | int] = dict(tea=1, cup=BEHIND, pot=BEHIND, jam=BEHIND, bun=BEHIND)
ANSWERS: dict[date, dict[str, dict[str, str | int]]] = {
    # the full run: a rank, or a reason
    RUN_DATE: {
        "ana": dict(tea="seen", cup=1, pot=BEHIND, jam=2, bun="seen"),
        "bob": dict(tea=BEHIND, cup=1, pot="returned", jam=BEHIND, bun=2),
        "cat": A_TEA_ALONE, "dan": A_TEA_ALONE, "eve": A_TEA_ALONE | {"pot": "seen"},
    },
    # What score_changes made of it, and what was taken off since.
    NEXT_DAY: {
        # The pot and the cup were touched since the full run, the bun the day before it.
        "ana": dict(tea="seen", cup=f"{OFF}, seen", pot="seen", jam=1, bun="blocked_now, seen"),
        # Tea was sent back since; the window that the pot was sent back in stands still.
        "bob": dict(tea="returned", cup=OFF, pot="returned", jam=1, bun="blocked_now"),
        # Of France on the day of the full run, as the table users says now, and as the history said then.
        "cat": dict(tea=1, cup=OFF, pot="export", jam=FULL, bun="blocked_now, seen"),  # news of last week
        "dan": dict(tea=1, cup=OFF, pot="export", jam=FULL, bun="blocked_now"),
        # The pot was no drink then; that it had been bought was struck out, and it is bought a day too late.
        "eve": dict(tea=1, cup=OFF, pot=BEHIND, jam=FULL, bun="blocked_now"),
    },
    # By an older version, whose rules do not say what seen means. It is not what is live.
    LAST_DAY: {"ana": dict(tea="seen", cup=BEHIND, pot=BEHIND, jam=1, bun="seen")},
}  # fmt: skip
LISTS = {
    RUN_DATE: {"ana": ["cup", "jam"], "bob": ["cup", "bun"], "cat": ["tea"], "dan": ["tea"], "eve": ["tea"]},
    NEXT_DAY: {"ana": ["jam"], "bob": ["jam", "bun"], "cat": ["tea"], "dan": ["tea", "bun"], "eve": ["tea"]},
    LAST_DAY: {"ana": ["jam"]},
}  # fmt: skip
EVENTS = [  # user, item, what, days after the full run's
    ("ana", "tea", "purchase", -5),
    ("ana", "jam", "purchase", -11),
    ("ana", "pot", "purchase", 0),
    ("ana", "bun", "view", -1),
    ("ana", "cup", "view", 0),
    ("bob", "pot", "return", -2),
    ("bob", "tea", "return", 0),
    ("cat", "bun", "purchase", -3),
    ("eve", "pot", "purchase", 1),
]
SEEN = '{"view": 1, "purchase": 10}'


@pytest.fixture(scope="module")
def shop_of_days(tmp_path_factory: pytest.TempPathFactory) -> PathsConfig:
    """An increment writes lists and rules; numbers, seen items, segments and groups stay those of the full run."""
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("days")))
    root = Path(paths.lake_uri)
    since = RUN_DATE - timedelta(days=100)
    kinds = {"tea": "Drinks", "jam": "Drinks", "pot": "Wares"}
    items = [
        dict(item_id=item, valid_from=since, title=item, category=kinds.get(item)) for item in NUMS
    ]
    moved = dict(item_id="pot", valid_from=RUN_DATE, title="pot", category="Drinks")
    write_table(root, contracts.ITEMS, [*items, moved])
    write_table(root, contracts.USERS, [
        dict(user_id=user, valid_from=valid_from, segment=segment)
        for user, segment, valid_from in
        [("cat", "France", since), ("cat", "Spain", RUN_DATE), ("dan", "Spain", since)]
    ])  # fmt: skip
    history = dict(
        user_id="dan", segment="France", item_ids=["tea"], item_nums=[1], event_types=["view"],
        ages_days=[50.0], is_capped=False,
    )  # fmt: skip
    write_table(root, contracts.HISTORIES, [history])
    older = RUN_DATE - timedelta(days=56)  # a cut-off of evaluation
    numbers = [
        dict(kind="item", version=version, id=item, num=num + shift)
        # On the next day features were built, and candidates failed: no list rests on these numbers.
        for version, shift in ((RUN_DATE, 0), (older, 7), (NEXT_DAY, 20))
        for item, num in NUMS.items()
    ]
    write_table(root, contracts.VOCABULARIES, numbers)
    seen: list[dict[str, Any]] = [
        dict(user_id="ana", item_nums=[NUMS["tea"], NUMS["bun"]]),
        dict(user_id="eve", item_nums=[NUMS["pot"]]),  # the event was struck out since
        dict(user_id="ana", item_nums=[NUMS["pot"] + 7], as_of=older),
    ]
    write_table(root, contracts.SEEN_ITEMS, seen)
    write_table(root, contracts.EVENTS, [_event(n, *what) for n, what in enumerate(EVENTS)])
    write_table(root, contracts.TOP_N_LISTS, [
        _list(user, day, items) for day, lists in LISTS.items() for user, items in lists.items()
    ])  # fmt: skip
    write_table(root, contracts.RULES, [
        *(_rule("seen", day, definition=SEEN) for day in (RUN_DATE, NEXT_DAY)),
        _rule("seen", LAST_DAY, definition="true"),
        *(_rule("returned", day, threshold=2.0) for day in (RUN_DATE, NEXT_DAY)),
        _rule("max_per_category", NEXT_DAY, threshold=1.0, stage=3),
        _rule("blocked", NEXT_DAY, item_ids=["cup"]),
        _rule("export", NEXT_DAY, item_ids=["pot"], segment="France"),
        _rule("import", NEXT_DAY, item_ids=["tea"], segment="Spain"),
    ])  # fmt: skip
    write_scoring_record(paths)
    for day in (NEXT_DAY, LAST_DAY):
        write_scoring_record(paths, run_date=day, full_as_of=RUN_DATE)
    make_release(paths, NEXT_DAY)
    for item in ("cup", "bun"):
        block_item(paths, item, reason="glass in it", now=NOON)
    return paths


def _event(n: int, user: str, item: str, what: str, days: int) -> dict[str, Any]:
    day = RUN_DATE + timedelta(days=days)
    return dict(
        event_id=f"e{n}", event_type=what, user_id=user, item_id=item, event_date=day,
        event_ts=datetime(day.year, day.month, day.day, 12, tzinfo=UTC), quantity=Decimal(1),
        unit_price=Decimal(2),
    )  # fmt: skip


def _list(user: str, as_of: date, items: Sequence[str]) -> dict[str, Any]:
    return dict(
        user_id=user, as_of=as_of, item_ids=list(items), scores=[1.0] * len(items),
        sources=["model"] * len(items), model_version="m1",
    )  # fmt: skip


def _rule(rule: str, as_of: date, **facts: Any) -> dict[str, Any]:
    anything: dict[str, Any] = dict(
        segment="", stage=1, definition="{}", threshold=None, item_ids=[]
    )
    said = anything | facts
    return dict(rule=rule, as_of=as_of, num_items=len(said["item_ids"]), num_items_alone=0) | said


def wanted() -> list[tuple[Any, ...]]:
    return [
        (user, day, item, why if isinstance(why, int) else None, *_said(why))
        for day, of_users in ANSWERS.items()
        for user, of_items in sorted(of_users.items())
        for item, why in sorted(of_items.items())
    ]


def _said(why: str | int) -> tuple[int | None, str]:
    if isinstance(why, int):
        return None, "shown"
    return {BEHIND: None, FULL: 3}.get(why, 1), why


def ask(paths: PathsConfig, sql: str) -> list[tuple[Any, ...]]:
    with open_lake(paths) as lake:
        return [tuple(row) for row in lake.query(sql)[1]]


def test_lists_of_changes_have_answers_by_the_full_run_and_the_events_since(
    shop_of_days: PathsConfig,
) -> None:
    assert ask(shop_of_days, QUESTION) == wanted()


@pytest.mark.spark
def test_spark_sql_gives_the_same_answers(shop_of_days: PathsConfig, spark: Any) -> None:
    from recsys.lake import Lake
    from recsys.sql.spark import register_views

    names = register_views(Lake(spark, shop_of_days))
    with open_lake(shop_of_days) as lake:
        assert names == lake.tables
    assert [tuple(row) for row in spark.sql(QUESTION).collect()] == wanted()


def test_what_is_off_and_what_lists_rest_on_can_be_asked(shop_of_days: PathsConfig) -> None:
    assert ask(shop_of_days, "SELECT * FROM blocked_items") == [
        ("bun", "glass in it", NOON, NEXT_DAY), ("cup", "glass in it", NOON, NEXT_DAY),
    ]  # fmt: skip
    assert ask(shop_of_days, "SELECT * FROM scored_days") == [
        (RUN_DATE, RUN_DATE, False), (NEXT_DAY, RUN_DATE, True), (LAST_DAY, RUN_DATE, True),
    ]  # fmt: skip


def test_a_release_says_itself_what_its_lists_rest_on(tmp_path: Path) -> None:
    paths = PathsConfig(root=str(tmp_path))
    write_scoring_record(paths, run_date=NEXT_DAY, full_as_of=RUN_DATE)
    manifest = make_release(paths, NEXT_DAY)  # published before the day was scored again
    assert scored_days(paths, manifest) == [(NEXT_DAY, NEXT_DAY, False)]
    inputs = ReleaseInputs(as_of=RUN_DATE, versions={}, is_increment=True)
    manifest = manifest.model_copy(update={"inputs": inputs})
    assert scored_days(paths, manifest) == [(NEXT_DAY, RUN_DATE, True)]


def test_a_day_whose_record_a_refused_run_took_away_rests_on_what_its_release_says(
    tmp_path: Path,
) -> None:
    paths = PathsConfig(root=str(tmp_path))
    inputs = ReleaseInputs(as_of=RUN_DATE, versions={}, is_increment=True)
    for day in (NEXT_DAY, LAST_DAY):
        write_scoring_record(paths, run_date=day, full_as_of=RUN_DATE)
        manifest = make_release(paths, day).model_copy(update={"inputs": inputs})
        folder = release_folder(paths, manifest.release_id)
        (folder / "manifest.json").write_text(manifest.to_json())
    wanted = [(day, RUN_DATE, True) for day in (NEXT_DAY, LAST_DAY)]
    assert scored_days(paths, None) == wanted
    for day in (NEXT_DAY, LAST_DAY):
        ScoringRecord.discard(paths, day)
    assert scored_days(paths, None) == wanted, "the live one, and the one on the shelf"
    write_scoring_record(paths, run_date=NEXT_DAY)
    assert scored_days(paths, None)[0] == (NEXT_DAY, NEXT_DAY, False), "scored again since"


def test_what_cannot_be_read_is_said_and_other_answers_are_given(
    shop_of_days: PathsConfig, tmp_path: Path
) -> None:
    shutil.copytree(shop_of_days.root, tmp_path / "var")
    paths = PathsConfig(root=str(tmp_path / "var"))
    ScoringRecord.path(paths, NEXT_DAY).write_text("{")
    ScoringRecord.discard(paths, LAST_DAY)
    for path in (blocked_path(paths), copy_path(paths), pointer_path(paths)):
        path.write_text("{")
    with capture_logs() as said:
        assert ask(paths, "SELECT * FROM blocked_items") == []
        found = {row[1:3]: row[5] for row in ask(paths, QUESTION) if row[0] == "ana"}
    assert {"scored_day_unknown", "blocked_items_unknown"} <= {one["event"] for one in said}
    # A day without a record is taken for that of a full run; there are no numbers of the last one.
    days = (RUN_DATE, NEXT_DAY, LAST_DAY)
    assert [found.get((day, "tea")) for day in days] == ["seen", FULL, None]
