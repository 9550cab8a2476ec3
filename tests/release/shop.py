"""A tiny shop that was scored: every table that publish reads, with rows that can be checked by eye.

Written by delta-rs: nine tables in a second, where Spark takes that long for each.
"""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from recsys.config.places import PathsConfig
from recsys.contracts import (
    ALSO_BOUGHT,
    DATA_QUALITY,
    EVENTS,
    HISTORIES,
    ITEM_FEATURES,
    ITEM_VECTORS,
    ITEMS,
    POPULAR_ITEMS,
    POPULARITY,
    QUARANTINE,
    RULES,
    SIMILAR_ITEMS,
    TOP_N_LISTS,
    USERS,
    TableContract,
)
from recsys.records import Recipe, ScoringRecord
from recsys.release.lists import PUBLISHED

RUN_DATE = date(2024, 6, 1)
ITEM_NUMS = {"tea": 1, "cup": 2, "pot": 3}
TITLES = {"tea": "GREEN TEA", "cup": "WHITE CUP", "pot": "TEAPOT, RED"}
Lists = dict[str, tuple[list[str], list[float], list[str]]]
LATER_FACTS: dict[str, dict[str, Any]] = {
    "tea": dict(valid_from=date(2024, 2, 1), category="Kitchen > Drinks", price=Decimal("2.5")),
    "cup": dict(valid_from=date(2024, 2, 1), category="Kitchen"),
}
LISTS: Lists = {
    "ana": (["pot", "tea", "cup"], [3.0, 2.5, 1.25], ["model", "repeat", "similar"]),
    "bob": (["cup", "tea"], [0.1, -0.5], ["similar", "popular"]),
    "eve 1/2": (["tea"], [7.0], ["popular"]),  # an id with a space and a slash
}
SIMILAR = [("tea", 1, "cup", 0.5), ("tea", 2, "pot", 0.25)]
AFTER = [("cup", 1, "tea", 2.5), ("tea", 1, "pot", 3.25), ("tea", 2, "cup", 1.5)]
POPULAR = [("", 1, "cup", 7.0), ("", 2, "tea", 2.0), ("France", 1, "tea", 2.0)]
SOLD = [("", 1, "pot", 0.75), ("", 2, "cup", 0.5), ("", 3, "tea", 0.25), ("France", 1, "tea", 1.0)]
OF_RULES = dict(rule="blocked", definition="{}", num_items=1)
REFUSED = [("h1", ["price_not_positive"]), ("h2", ["price_not_positive", "not_a_product"])]
BOUGHT = [  # user, item, days before the run date, units
    ("ana", "tea", 3, 2),
    ("ana", "cup", 40, 1),
    ("bob", "cup", 1, 6),
    (None, "pot", 2, 1),  # anonymous
]


def write_shop(root: Path) -> None:
    """Write every table under ``root``."""
    since = date(2024, 1, 1)
    write_table(root, EVENTS, [_event(n, *bought) for n, bought in enumerate(BOUGHT)])
    write_table(
        root,
        ITEMS,
        [dict(item_id=item, valid_from=since, title=title) for item, title in TITLES.items()]
        + [dict(item_id=item, **facts) for item, facts in LATER_FACTS.items()]
        # Known from the run date on: not yet true of its release.
        + [dict(item_id="pot", valid_from=RUN_DATE, title="TEAPOT, BLUE")],
    )
    users = [dict(user_id=user, valid_from=since, segment="France") for user in ("ana", "bob")]
    write_table(root, USERS, users)
    refused = [dict(row_hash=h, copy=0, raw_row="x", reasons=reasons) for h, reasons in REFUSED]
    write_table(root, QUARANTINE, refused)
    history = dict(
        user_id="ana", segment="France", item_ids=["cup", "tea"], item_nums=[2, 1],
        event_types=["purchase"] * 2, ages_days=[40.0, 3.0], is_capped=False,
    )  # fmt: skip
    write_table(root, HISTORIES, [history])
    vectors = [
        dict(item_id=item, item_num=num, vector=[float(num), 1.0], model_version="m1")
        for item, num in ITEM_NUMS.items()
    ]
    write_table(root, ITEM_VECTORS, vectors)
    features = [
        dict(item_id="tea", num_users_28d=1, popularity_trend=0.0),
        dict(item_id="cup", num_users_28d=1, popularity_trend=1.0),
    ]
    write_table(root, ITEM_FEATURES, features)
    write_lists(root, LISTS)
    similar = [
        dict(item_id=item, rank=rank, similar_item_id=other, score=score)
        for item, rank, other, score in SIMILAR
    ]
    write_table(root, SIMILAR_ITEMS, similar)
    after = [
        dict(item_id=item, rank=rank, next_item_id=other, score=score)
        for item, rank, other, score in AFTER
    ]
    write_table(root, ALSO_BOUGHT, after)
    sold = [
        dict(segment=segment, item_id=item, item_num=ITEM_NUMS[item], score=score, rank=rank)
        for segment, rank, item, score in SOLD
    ]
    write_table(root, POPULARITY, sold)
    write_table(root, RULES, [dict(segment="", stage=1, item_ids=["pot"]) | OF_RULES])
    popular = [
        dict(segment=segment, rank=rank, item_id=item, score=score)
        for segment, rank, item, score in POPULAR
    ]
    write_table(root, POPULAR_ITEMS, popular)


def copy_published(shop: Path, root: Path) -> None:
    """The published tables alone of a shop that was written: a publish takes a third of the time."""
    for table in PUBLISHED.values():
        shutil.copytree(shop / table.name, root / table.name)


def write_lists(root: Path, lists: Lists, night_before: Lists | None = None) -> None:
    """Write (or overwrite) the users' lists, those of RUN_DATE and of the day before it."""
    nights = {RUN_DATE: lists, RUN_DATE - timedelta(days=1): night_before or {}}
    rows = [
        dict(
            user_id=user,
            as_of=as_of,
            item_ids=items,
            scores=scores,
            sources=sources,
            model_version="m1",
        )
        for as_of, of_night in nights.items()
        for user, (items, scores, sources) in of_night.items()
    ]
    write_table(root, TOP_N_LISTS, rows)


def accept_a_volume(root: Path) -> None:
    row = dict(
        run_date=RUN_DATE, job="ingest", check="volume", source_file="", subject="", value=4.0,
        wanted="70 or more", verdict="accepted", reason="the till was down",
    )  # fmt: skip
    write_table(root, DATA_QUALITY, [row])


def write_table(root: Path, contract: TableContract, rows: list[dict[str, Any]]) -> None:
    """One more version of a table, holding these rows; what every table shares is filled in."""
    shared = {"as_of": RUN_DATE, "source": "till", "source_file": "a.csv"}
    columns = {
        column.name: pa.array(
            [(shared | row).get(column.name) for row in rows], _arrow_type(column.type)
        )
        for column in contract.columns
    }
    write_deltalake(str(root / contract.name), pa.table(columns), mode="overwrite")


def _arrow_type(spark_type: str) -> pa.DataType:
    name, _, inner = spark_type.rstrip(">)").partition("<" if "<" in spark_type else "(")
    if name == "array":
        return pa.list_(_arrow_type(inner))
    if name == "map":
        return pa.map_(*map(_arrow_type, inner.split(",")))
    if name == "decimal":
        return pa.decimal128(*map(int, inner.split(",")))
    return {
        "string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "float": pa.float32(),
        "double": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(), "binary": pa.binary(),
        "timestamp": pa.timestamp("us", "UTC"),
    }[name]  # fmt: skip


def write_scoring_record(paths: PathsConfig, **changes: Any) -> None:
    """What score_top_n leaves for publish."""
    facts: dict[str, Any] = {
        "run_date": RUN_DATE,
        "model_version": "m1",
        "model_as_of": RUN_DATE,
        "model_age_days": 0,
        "reason": "new and passed",
        "recipe": Recipe(name="blend", similarity=1.0),
    }
    ScoringRecord(**(facts | changes)).write(paths)


def _event(n: int, user: str | None, item: str, days: int, units: int) -> dict[str, Any]:
    day = RUN_DATE - timedelta(days=days)
    return dict(
        event_id=f"e{n}", event_type="purchase", user_id=user, item_id=item, event_date=day,
        event_ts=datetime(day.year, day.month, day.day, 12, tzinfo=UTC), quantity=Decimal(units),
        unit_price=Decimal("1.5"),
    )  # fmt: skip
