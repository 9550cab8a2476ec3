"""A generated shop holds what it says it holds, and holds it again for the same seed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.config.sections import GenerateShopConfig
from recsys.errors import ConfigError
from recsys.shop_generator import Planted, generate_shop

SMALL = GenerateShopConfig(
    users=300, items=90, item_groups=9, events=20_000, days=28, return_share=0.1,
    dirty_shares={
        "bad_timestamp": 0.01, "missing_item": 0.01, "unknown_type": 0.01,
        "negative_price": 0.01, "duplicate_row": 0.01,
    },
)  # fmt: skip

Row = dict[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    folder = tmp_path_factory.mktemp("shop") / "small"
    return folder, generate_shop(SMALL.model_copy(update={"directory": str(folder)}))


def rows_of(path: Path) -> list[Row]:
    with gzip.open(path, "rt", newline="") as text:
        return list(csv.DictReader(text))


def days_of(folder: Path) -> dict[str, list[Row]]:
    return {path.name: rows_of(path) for path in sorted((folder / "events").iterdir())}


def sound(rows: list[Row]) -> list[Row]:
    once = {tuple(row.items()): row for row in rows}.values()
    return [
        row for row in once
        if row["event_time"].startswith("2024") and row["item"] and row["event"] != "wishlist"
        and not row["unit_price"].startswith("-")
    ]  # fmt: skip


def digest(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    made: tuple[Path, Planted], tmp_path: Path
) -> None:
    generate_shop(SMALL.model_copy(update={"directory": str(tmp_path / "again")}))
    assert digest(tmp_path / "again") == digest(made[0])
    generate_shop(SMALL.model_copy(update={"directory": str(tmp_path / "other"), "seed": 18}))
    assert digest(tmp_path / "other") != digest(made[0])


def test_sound_rows_are_exactly_the_events_asked_for(made: tuple[Path, Planted]) -> None:
    folder, planted = made
    assert sum(len(sound(rows)) for rows in days_of(folder).values()) == SMALL.events
    assert planted.accepted_rows == SMALL.events == sum(planted.events_by_type.values())


def test_the_answers_count_every_dirty_row(made: tuple[Path, Planted]) -> None:
    folder, planted = made
    rows = [row for day in days_of(folder).values() for row in day]
    assert planted.dirty_rows == {
        "bad_timestamp": sum(not row["event_time"].startswith("2024") for row in rows),
        "missing_item": sum(not row["item"] for row in rows),
        "unknown_type": sum(row["event"] == "wishlist" for row in rows),
        "negative_price": sum(row["unit_price"].startswith("-") for row in rows),
        "duplicate_row": len(rows) - len({tuple(row.items()) for row in rows}),
    }
    assert min(planted.dirty_rows.values()) > 100
    assert planted.raw_rows == len(rows)
    assert planted.raw_rows_by_file == {name: len(day) for name, day in days_of(folder).items()}
    assert json.loads((folder / "planted.json").read_text()) == json.loads(
        json.dumps(asdict(planted))
    )


def test_the_shop_is_closed_on_its_closed_weekdays(made: tuple[Path, Planted]) -> None:
    folder, planted = made
    open_days = {date.fromisoformat(name.removesuffix(".csv.gz")) for name in days_of(folder)}
    assert len(open_days) == 24
    assert not {day for day in open_days if day.weekday() == 6}
    assert planted.closed_days == ["2024-01-07", "2024-01-14", "2024-01-21", "2024-01-28"]
    assert planted.first_run_date == "2024-01-29"


def test_every_purchase_follows_its_cart_and_view(made: tuple[Path, Planted]) -> None:
    steps = ["view", "cart", "purchase"]
    for rows in days_of(made[0]).values():
        before: list[Row] = []
        for row in sorted(sound(rows), key=lambda r: (r["visit"], r["event_time"])):
            if row["event"] in {"cart", "purchase"}:
                last = before[-1]
                assert (last["visit"], last["item"]) == (row["visit"], row["item"])
                assert last["event"] == steps[steps.index(row["event"]) - 1]
            before.append(row)


def test_every_return_was_bought_one_to_fourteen_days_before(made: tuple[Path, Planted]) -> None:
    folder, planted = made
    rows = [row for day in days_of(folder).values() for row in sound(day)]
    returns = [row for row in rows if row["event"] == "return"]
    assert len(returns) == planted.events_by_type["return"] > 50
    bought: dict[tuple[str, str, str], list[date]] = {}
    for row in rows:
        if row["event"] == "purchase":
            key = (row["user"], row["item"], row["quantity"])
            bought.setdefault(key, []).append(date.fromisoformat(row["event_time"][:10]))
    for row in returns:
        day = date.fromisoformat(row["event_time"][:10])
        assert row["quantity"].startswith("-")
        days = bought[row["user"], row["item"], row["quantity"].removeprefix("-")]
        # Fifteen where the fourteenth day is a Sunday.
        assert any(1 <= (day - d).days <= 15 for d in days)


def test_users_keep_to_their_preferred_groups_and_favourites(made: tuple[Path, Planted]) -> None:
    folder, planted = made
    group = {r["item"]: int(r["category"].split()[1]) for r in rows_of(folder / "items.csv.gz")}
    users = {r["user"]: r for r in rows_of(folder / "users.csv.gz")}
    rows = [row for day in days_of(folder).values() for row in sound(day)]
    views = [row for row in rows if row["event"] == "view"]
    preferred = [
        str(group[r["item"]]) in users[r["user"]]["preferred_groups"].split() for r in views
    ]
    assert sum(preferred) / len(views) == pytest.approx(planted.preferred_view_share, abs=1e-6)
    assert planted.preferred_view_share > 0.8
    favourite = [
        r["item"] in users[r["user"]]["favourites"].split()
        for r in rows
        if r["event"] == "purchase"
    ]
    assert sum(favourite) >= planted.repeat_purchases > 500


def test_items_and_users_are_all_there(made: tuple[Path, Planted]) -> None:
    items, users = (rows_of(made[0] / f"{what}.csv.gz") for what in ("items", "users"))
    assert (len(items), len(users)) == (90, 300)
    assert set(Counter(r["category"].split(" > ")[0] for r in items).values()) == {10}
    assert [r["item"] for r in items if r["stock"] == "0"] == made[1].out_of_stock_items


def test_parquet_holds_the_same_rows(made: tuple[Path, Planted], tmp_path: Path) -> None:
    parquet = SMALL.model_copy(
        update={"directory": str(tmp_path / "shop"), "file_format": "parquet"}
    )
    generate_shop(parquet)
    table = pq.read_table(tmp_path / "shop" / "events" / "2024-01-01.parquet")
    as_text = [{name: value or "" for name, value in row.items()} for row in table.to_pylist()]
    assert as_text == days_of(made[0])["2024-01-01.csv.gz"]


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something that is no generated shop"):
        generate_shop(SMALL.model_copy(update={"directory": str(tmp_path)}))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_shop_that_never_opens_is_refused() -> None:
    with pytest.raises(ValueError, match="never opens"):
        GenerateShopConfig(closed_weekdays=tuple(range(7)))
