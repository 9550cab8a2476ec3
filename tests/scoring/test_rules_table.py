"""The rules on a shop of eleven items: the lists, the table ``rules``, and why an item is not shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from recsys import contracts
from recsys.blocked import block_item, blocked_path
from recsys.config import RecsysConfig
from recsys.config.places import CHECKOUT, PathsConfig
from recsys.config.rules import RulesConfig
from recsys.errors import Refused
from recsys.records import Recipe
from recsys.sql.duck import open_lake
from tests.conftest import TEST_SPARK
from tests.release.shop import RUN_DATE, write_table
from tests.scoring.worlds import model_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.lake import Lake

pytestmark = pytest.mark.spark

ITEMS: dict[str, dict[str, Any]] = {  # the best seller first
    "tea": {},
    "cup": {},
    "pot": {},
    "jam": dict(stock=0),
    "bun": dict(price=Decimal("0.99")),
    "gin": dict(attributes={"alcohol": "yes"}),
    "wok": dict(category="Home > Wares"),
    "pan": dict(category="Home > Wares"),
    "map": dict(category="Home > Wares"),
    "nut": dict(price=Decimal("1.00")),
    "oil": {},
}
NUMS = {item: num for num, item in enumerate(ITEMS, start=1)}
USERS = {"ana": "UK", "bob": "France", "eve": "France", "zed": "Oz"}
SEEN = {"ana": [NUMS["tea"]], "zed": [NUMS["wok"]]}
RETURNED = [("ana", "pan", 30), ("bob", "pan", 31)]  # user, item, days before the run date

RULES = RulesConfig.model_validate({
    "blocked_items": ["cup", "gone"],
    "min_price": 1,
    "catalogue": {
        "no_alcohol": {"segments": ["France"], "hide": {"attributes": {"alcohol": ["yes"]}}},
        "oz": {"segments": ["Oz", "Narnia"], "only": {"item_ids": ["wok"]}},
    },
    "returned_days": 30,
    "max_per": {"category": 1},
})  # fmt: skip


def write_tables(root: Path) -> None:
    since = RUN_DATE - timedelta(days=100)
    numbers = [dict(kind="item", version=RUN_DATE, id=item, num=num) for item, num in NUMS.items()]
    write_table(root, contracts.VOCABULARIES, numbers)
    items = [dict(item_id=item, valid_from=since) | facts for item, facts in ITEMS.items()]
    # A later word on the price says nothing of the attributes.
    later = dict(item_id="gin", valid_from=since + timedelta(days=1), attributes={"size": "1 l"})
    write_table(root, contracts.ITEMS, [*items, later | {"price": Decimal(20)}])
    users = [dict(user_id=u, valid_from=since, segment=segment) for u, segment in USERS.items()]
    write_table(root, contracts.USERS, users)
    histories = [
        dict(
            user_id=user, segment=USERS[user], item_ids=["tea"], item_nums=[1], event_types=["purchase"],
            ages_days=[3.0], is_capped=False,
        )
        for user in ("ana", "bob", "zed")
    ]  # fmt: skip
    write_table(root, contracts.HISTORIES, histories)
    seen = [dict(user_id=user, item_nums=nums) for user, nums in SEEN.items()]
    write_table(root, contracts.SEEN_ITEMS, seen)
    write_table(root, contracts.EVENTS, [_return(n, *what) for n, what in enumerate(RETURNED)])
    sold = [
        dict(segment="", item_id=item, item_num=num, score=0.5, num_users=100 - num, rank=num)
        for item, num in NUMS.items()
    ]
    write_table(root, contracts.POPULARITY, sold)
    write_table(root, contracts.ITEM_SIMILARITY, [])
    write_table(root, contracts.TRANSITIONS, [])


def _return(n: int, user: str, item: str, days: int) -> dict[str, Any]:
    day = RUN_DATE - timedelta(days=days)
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return dict(
        event_id=f"e{n}", event_type="return", user_id=user, item_id=item, event_date=day, event_ts=at
    )  # fmt: skip


def config_of(root: Path) -> RecsysConfig:
    config = RecsysConfig(paths=PathsConfig(root=str(root)), spark=TEST_SPARK, rules=RULES)
    return config.model_copy(
        update={
            "shop": config.shop.model_copy(update={"exclude_seen": True}),
            "scoring": config.scoring.model_copy(update={"n": 3}),
        }
    )


def score(lake: Lake, config: RecsysConfig) -> None:
    from recsys.scoring.choice import Choice
    from recsys.scoring.daily import score_day

    recipe = Recipe(name="blend", popularity=1.0)
    score_day(
        lake, config, RUN_DATE, Choice("hand-made", recipe, "a test", is_new=False, live=None)
    )


@pytest.fixture(scope="module")
def scored(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, RecsysConfig, list[Any]]:
    """The shop after a night, and what was said."""
    from recsys.lake import Lake

    config = config_of(tmp_path_factory.mktemp("ruled"))
    write_tables(Path(config.paths.lake_uri))
    block_item(config.paths, "pot", reason="glue", now=datetime(2024, 6, 1, tzinfo=UTC))
    blocked_path(config.paths).write_text("{")  # the night takes its copy
    model_folder(config.paths.models, np.zeros((2, 2), np.float32), as_of=RUN_DATE)
    lake = Lake(spark, config.paths)
    with capture_logs() as said:
        score(lake, config)
    return lake, config, said


def ask(config: RecsysConfig, sql: str) -> list[tuple[Any, ...]]:
    with open_lake(config.paths) as lake:
        return [tuple(row) for row in lake.query(sql)[1]]


def test_lists_hold_what_the_rules_let_through(scored: Any) -> None:
    lists = dict(ask(scored[1], "SELECT user_id, item_ids FROM top_n_lists"))

    assert lists == {
        "ana": ["gin", "wok", "nut"],  # tea was seen, pan lately returned, map is a second ware
        "bob": ["tea", "wok", "nut"],  # no gin in France
        "eve": ["tea", "wok", "nut"],  # a new user of the same segment
        "zed": [],  # Oz has the wok alone, and zed has it
    }
    popular = ask(scored[1], "SELECT segment, item_id FROM popular_items WHERE rank <= 2")
    assert set(popular) == {
        ("", "tea"), ("", "gin"), ("France", "tea"), ("France", "wok"), ("Oz", "wok"), ("Narnia", "wok"),
    }  # fmt: skip


ALL_BUT_WOK = sorted(set(ITEMS) - {"wok"})
TABLE = [
    # rule, segment, stage, threshold, items, of these taken by no other rule, users, places
    ("blocked", "", 1, None, ["cup"], 1, None, None),
    ("blocked_now", "", 1, None, ["pot"], 1, None, None),
    ("max_per_category", "", 3, 1.0, [], 0, 3, 5),  # ana's map; pan and map of bob and of eve
    ("min_price", "", 1, 1.0, ["bun"], 1, None, None),
    ("no_alcohol", "France", 1, None, ["gin"], 1, None, None),
    ("out_of_stock", "", 1, None, ["jam"], 1, None, None),
    ("oz", "Narnia", 1, None, ALL_BUT_WOK, 6, None, None),
    ("oz", "Oz", 1, None, ALL_BUT_WOK, 6, None, None),
    ("returned", "", 1, 30.0, [], 0, 1, 1),
    ("seen", "", 1, None, [], 0, 2, 2),
]


def test_the_table_says_what_each_rule_took(scored: Any) -> None:
    columns = "rule, segment, stage, threshold, item_ids, num_items_alone, num_users, num_places"
    assert ask(scored[1], f"SELECT {columns} FROM rules ORDER BY rule, segment") == TABLE
    [(definition,)] = ask(scored[1], "SELECT definition FROM rules WHERE rule = 'no_alcohol'")
    assert definition == '{"hide": {"attributes": {"alcohol": ["yes"]}}, "segments": ["France"]}'


def test_names_that_nothing_has_and_users_without_a_list_are_said(scored: Any) -> None:
    said = scored[2]
    unknown = {
        (s["rule"], s["key"]): s["examples"] for s in said if s["event"] == "rule_names_unknown"
    }
    assert unknown == {("blocked", "blocked_items"): ["gone"], ("oz", "segments"): ["Narnia"]}
    [empty] = [s for s in said if s["event"] == "users_without_a_list"]
    assert (empty["users"], empty["of"]) == (1, 4)


BEHIND = "below_the_last_place"
ANSWERS: dict[str, dict[str, str | int]] = {
    "ana": dict(tea="seen", gin=1, wok=2, pan="returned", map="max_per_category", nut=3, oil=BEHIND),
    "bob": dict(tea=1, gin="no_alcohol", wok=2, pan="max_per_category", map="max_per_category", nut=3,
                oil=BEHIND),
    "zed": dict(tea="oz", gin="oz", wok="seen", pan="oz", map="oz", nut="oz", oil="oz"),
}  # fmt: skip
FOR_ALL = {"cup": "blocked", "pot": "blocked_now", "jam": "out_of_stock", "bun": "min_price"}


def test_why_not_answers_for_every_user_and_item(scored: Any) -> None:
    rows = ask(scored[1], "SELECT user_id, item_id, coalesce(rank::VARCHAR, reason) FROM why_not")

    wanted = {(user, item): str(why) for user, of in ANSWERS.items() for item, why in of.items()}
    for user in ANSWERS:
        behind = ", oz" if user == "zed" else ""
        wanted |= {(user, item): f"{why}{behind}" for item, why in FOR_ALL.items()}
    found = {(user, item): why for user, item, why in rows}
    assert {pair: found[pair] for pair in wanted} == wanted
    assert len(rows) == len(USERS) * len(ITEMS)


def questions() -> list[str]:
    """The SQL blocks of docs/sql.md on rules."""
    text = (CHECKOUT / "docs" / "sql.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    return [block for block in blocks if "why_not" in block or "FROM rules" in block]


def test_the_questions_of_the_documentation_have_answers(scored: Any) -> None:
    why, took = questions()

    assert ask(scored[1], why.replace("13085", "ana").replace("22423", "pan")) == [
        (RUN_DATE, None, 1, "returned")
    ]
    assert len(ask(scored[1], took)) == len(TABLE)


def test_spark_sql_gives_the_same_answers(scored: Any, spark: SparkSession) -> None:
    from recsys.sql.spark import register_views

    register_views(scored[0])
    for sql in (
        questions()[1],
        "SELECT user_id, as_of, item_id, rank, stage, reason FROM why_not ORDER BY user_id, item_id",
        "SELECT rule, segment, item_id FROM rule_items ORDER BY rule, segment, item_id",
    ):
        assert [tuple(row) for row in spark.sql(sql).collect()] == ask(scored[1], sql)


def test_the_same_night_again_gives_the_same_rows(scored: Any) -> None:
    from recsys.scoring.kit_tables import build_ruled_kit
    from recsys.scoring.rule_counts import rule_rows
    from recsys.scoring.scorer import Rules

    lake, config, _ = scored
    rules = Rules(exclude_seen=True, max_per=config.rules.limits)
    counted = {"users max_per_category": 3, "places max_per_category": 5}
    counted |= {"users returned": 1, "places returned": 1, "users seen": 2, "places seen": 2}

    again = rule_rows(build_ruled_kit(lake, config, RUN_DATE), config, rules, counted)

    names = ", ".join(contracts.RULES.column_names)
    assert sorted(again) == ask(config, f"SELECT {names} FROM rules ORDER BY rule, segment")


def test_rules_are_written_without_a_job_of_spark_and_hashed_as_spark_does(scored: Any) -> None:
    from recsys.errors import ContractError
    from recsys.scoring.rule_counts import STAGES, write_rules

    lake, _, _ = scored
    day = RUN_DATE + timedelta(days=400)
    names = contracts.RULES.column_names
    rows = [tuple(row[name] for name in names) for row in lake.read(contracts.RULES).collect()]
    jobs = lake.spark.sparkContext._jsc.sc().dagScheduler().numTotalJobs

    lake.version(contracts.RULES)
    before = jobs()
    written = write_rules(lake, rows[::-1], day)
    assert jobs() == before

    found = lake.read(contracts.RULES, as_of=day).collect()
    at = names.index("as_of")
    assert sorted(map(tuple, found)) == sorted((*row[:at], day, *row[at + 1 :]) for row in rows)
    assert lake.content_hash(contracts.RULES, as_of=day) == written.content_hash
    with pytest.raises(ContractError, match="rule, segment: two rows have one"):
        write_rules(lake, [*rows, rows[0]], day)
    stage, version = names.index("stage"), lake.version(contracts.RULES)
    odd = (*rows[0][:stage], 2, *rows[0][stage + 1 :])
    with pytest.raises(ContractError, match=rf"stage: 1 rules .* stages 1, 3: {odd[0]}: 2"):
        write_rules(lake, [odd, *rows[1:]], day)
    assert lake.version(contracts.RULES) == version, (
        "Delta's CHECK does not look at what Arrow writes"
    )
    assert contracts.RULES.checks == {"known_stage": f"stage IN {STAGES}"}
    assert write_rules(lake, [], day).rows == 0
    assert lake.read(contracts.RULES, as_of=day).count() == 0


def test_a_rule_that_leaves_nothing_refuses_the_run_but_not_an_evaluation(scored: Any) -> None:
    from recsys.scoring.kit_tables import build_kit, build_ruled_kit

    lake, config, _ = scored
    too_dear = config.rules.model_copy(update={"min_price": Decimal(50)})
    nothing = {"all_of_it": {"segments": ["France"], "hide": {"price_below": 50}}}
    france = RulesConfig.model_validate(
        {"catalogue": nothing | {"rest": {"hide": {"item_ids": ["tea"]}}}}
    )
    only = RulesConfig.model_validate(
        {"catalogue": {"new": {"segments": ["UK"], "only": {"attributes": {"vegan": ["yes"]}}}}}
    )

    kit = build_ruled_kit(lake, config.model_copy(update={"rules": too_dear}), RUN_DATE).kit
    assert kit.allowed.any()  # items without a price are not too cheap
    assert build_kit(lake, config.model_copy(update={"rules": france}), RUN_DATE).allowed.any()
    ruled = config.model_copy(update={"rules": only})
    with pytest.raises(
        Refused,
        match=r"rule 'new' leaves nothing to offer to the users of segment 'UK' as of 2024-06-01: it takes 11 "
        r"items, and all 9 that the rules before it leave",
    ):
        build_ruled_kit(lake, ruled, RUN_DATE)
    with capture_logs() as said:
        kit = build_kit(lake, ruled, RUN_DATE)
    assert kit.allowed_in(kit.segments.index("UK")).sum() == 9
    assert [s["rule"] for s in said if s["event"] == "rule_not_applied"] == ["new"]
