"""Publishing a scored shop: what is served is what was scored, and an interruption changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

import orjson
import pytest
from pyspark.sql import SparkSession

from recsys.blocked import block_item, copy_path, read_blocked
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import PublishConfig
from recsys.config.shop import ShopConfig
from recsys.contracts import POPULAR_ITEMS, RELEASES, SERVED_HISTORY
from recsys.errors import Conflict, CorruptArtifact, MissingInput, Refused
from recsys.lake import Lake
from recsys.locks import exclusive
from recsys.records import Recipe, write_atomically
from recsys.release.actions import Action
from recsys.release.lists import bought, hidden_items, popular_by_category
from recsys.release.manifest import AcceptedVolume, ReleaseManifest
from recsys.release.opening import open_release
from recsys.release.pins import pin, roll_back, unpin
from recsys.release.pointer import (
    live_release,
    pointer_path,
    read_pointer,
    release_folder,
)
from recsys.release.publish import publish
from recsys.release.snapshot import DATA_FILE
from recsys.release.stored_list import Place, decode
from tests.release.making import NOON, make_release
from tests.release.shop import (
    ITEM_NUMS,
    LISTS,
    RUN_DATE,
    accept_a_volume,
    write_lists,
    write_scoring_record,
    write_table,
)

pytestmark = pytest.mark.spark
LATER = NOON + timedelta(hours=1)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def releases_rows(lake: Lake) -> list[tuple[str, str, datetime, str]]:
    rows = lake.read(RELEASES).orderBy("at").collect()
    return [(row["release_id"], row["action"], row["at"], row["manifest"]) for row in rows]


def served(paths: PathsConfig) -> dict[str, list[tuple[str, float, str]]]:
    """What the live snapshot answers."""
    live = live_release(paths)
    assert live is not None
    with open_release(release_folder(paths, live.release_id)) as snapshot:
        return {
            user: [
                (p.item_id, p.score, p.source) for p in decode(snapshot.get("users", user) or b"")
            ]
            for user in LISTS
        }


def test_what_was_scored_is_what_is_served_and_again_is_a_no_op(
    spark: SparkSession, shop: RecsysConfig
) -> None:
    lake = Lake(spark, shop.paths)
    accept_a_volume(Path(shop.paths.lake_uri))

    published = publish(lake, shop, RUN_DATE, now=NOON)

    assert (published.built, published.live) == (True, True)
    manifest = published.manifest
    assert live_release(shop.paths) == manifest
    assert manifest.counts == {
        "users": 3, "items": 3, "also_bought": 3, "segments": 2, "categories": 2, "facts": 3,
        "bought": 1,
    }  # fmt: skip
    assert set(manifest.golden_users) == set(LISTS)
    assert manifest.accepted_volumes == (
        AcceptedVolume(job="ingest", subject="", value=4.0, reason="the till was down"),
    )
    tables = {name: table.rows for name, table in manifest.tables.items()}
    assert tables == {
        "events": 4, "items": 5, "users": 2, "histories": 1, "popularity": 4, "item_vectors": 3,
        "rules": 1, "top_n_lists": 3, "similar_items": 2, "also_bought": 3, "popular_items": 3,
    }  # fmt: skip  # items: the sixth row is known from the run date on
    assert served(shop.paths) == {user: list(zip(*LISTS[user], strict=True)) for user in LISTS}
    with open_release(release_folder(shop.paths, manifest.release_id)) as snapshot:
        assert [p.item_id for p in decode(snapshot.get("items", "tea") or b"")] == ["cup", "pot"]
        assert decode(snapshot.get("items", "pot") or b"") == []  # known, goes with nothing
        assert snapshot.get("items", "saucer") is None
        after_tea = [Place("pot", 3.25, "also_bought"), Place("cup", 1.5, "also_bought")]
        assert decode(snapshot.get("also_bought", "tea") or b"") == after_tea
        assert decode(snapshot.get("also_bought", "pot") or b"") == []  # known, nothing after it
        assert snapshot.get("also_bought", "saucer") is None
        assert [p.item_id for p in decode(snapshot.get("segments", "") or b"")] == ["cup", "tea"]
        assert [p.item_id for p in decode(snapshot.get("segments", "France") or b"")] == ["tea"]
        # pot sells best and has no category; of the others a category has those below it too
        kitchen = [Place("cup", 0.5, "popular"), Place("tea", 0.25, "popular")]
        assert decode(snapshot.get("categories", "Kitchen") or b"") == kitchen
        assert decode(snapshot.get("categories", "Kitchen > Drinks") or b"") == kitchen[1:]
        facts = {id_: orjson.loads(snapshot.get("facts", id_) or b"0") for id_ in ITEM_NUMS}
        assert facts == {
            "tea": {"title": "GREEN TEA", "category": "Kitchen > Drinks", "price": 2.5},
            "cup": {"title": "WHITE CUP", "category": "Kitchen"},
            "pot": {"title": "TEAPOT, RED"},
        }
        assert orjson.loads(snapshot.get("bought", "ana") or b"") == [
            {"item_id": "tea", "event_type": "purchase", "date": "2024-05-29"},
            {"item_id": "cup", "event_type": "purchase", "date": "2024-04-22"},
        ]
    [(release_id, action, _, text)] = releases_rows(lake)
    assert (release_id, action) == (manifest.release_id, "published")
    assert json.loads(text) == json.loads(manifest.to_json())

    again = publish(lake, shop, RUN_DATE, now=LATER)

    assert (again.built, again.live, again.manifest) == (False, True, manifest)
    pointer = read_pointer(shop.paths)
    assert pointer is not None
    assert pointer.at == NOON
    assert len(releases_rows(lake)) == 1


def test_an_interrupted_publish_leaves_a_whole_release_and_is_completed_by_the_next(
    spark: SparkSession, lists: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(spark, lists.paths)
    old = make_release(lists.paths, date(2024, 5, 31))

    def killed_at(place: str, now: datetime) -> ReleaseManifest:
        """What is live after a publish that died there."""

        def failpoint(name: str) -> None:
            if name == f"publish:{place}":
                raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr("recsys.release.publish.failpoint", failpoint)
            publish(lake, lists, RUN_DATE, now=now)
        live = live_release(lists.paths)
        assert live is not None
        open_release(release_folder(lists.paths, live.release_id)).close()
        assert not lake.exists(RELEASES)
        return live

    assert killed_at("after-snapshot", NOON) == old
    assert killed_at("before-pointer", NOON) == old
    new = killed_at("after-pointer", LATER)
    assert new != old

    published = publish(lake, lists, RUN_DATE, now=LATER + timedelta(hours=1))

    assert (published.built, published.live, published.manifest) == (False, True, new)
    [row] = (
        lake.read(RELEASES).selectExpr("release_id", "action", "unix_micros(at) AS at").collect()
    )
    assert (row["release_id"], row["action"]) == (new.release_id, "published")
    assert (
        row["at"] == LATER.timestamp() * 1_000_000
    )  # when the pointer moved, not when it was recorded
    assert sorted(path.name for path in lists.paths.releases.iterdir()) == sorted(
        [old.release_id, new.release_id, "actions.jsonl", "current"]
    )


def test_a_pin_holds_later_releases_back_until_unpin(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake = Lake(spark, lists.paths)
    first = make_release(lists.paths, date(2024, 5, 30))
    make_release(lists.paths, date(2024, 5, 31))
    roll_back(lists.paths, None, reason="bad lists", now=NOON)

    held = publish(lake, lists, RUN_DATE, now=LATER)

    assert (held.built, held.live) == (True, False)
    assert f"{first.release_id} is pinned (bad lists)" in held.reason
    assert live_release(lists.paths) == first
    open_release(release_folder(lists.paths, held.manifest.release_id)).close()
    actions = [(release_id, action) for release_id, action, *_ in releases_rows(lake)]
    assert actions == [(first.release_id, "rolled_back"), (held.manifest.release_id, "held")]

    unpin(lists.paths, reason="", now=LATER + timedelta(minutes=1))
    published = publish(lake, lists, RUN_DATE, now=LATER + timedelta(minutes=2))

    assert (published.built, published.live) == (False, True)
    assert live_release(lists.paths) == published.manifest
    assert [row[1] for row in releases_rows(lake)] == [
        "rolled_back",
        "held",
        "unpinned",
        "published",
    ]


def test_what_a_roll_back_served_is_in_served_history_after_the_next_publish(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake, root = Lake(spark, lists.paths), Path(lists.paths.lake_uri)

    def recorded() -> set[str]:
        return {row["release_id"] for row in lake.read(SERVED_HISTORY).collect()}

    first = publish(lake, lists, RUN_DATE, now=NOON).manifest.release_id
    pin(lists.paths, None, reason="sales week", now=NOON)
    write_lists(root, LISTS | {"bob": (["pot"], [1.0], ["model"])})
    held = publish(lake, lists, RUN_DATE, now=LATER).manifest.release_id
    assert recorded() == {first}
    roll_back(lists.paths, held, reason="better", now=LATER + timedelta(minutes=1))

    write_lists(root, LISTS | {"bob": (["tea"], [1.0], ["model"])})
    never_live = publish(lake, lists, RUN_DATE, now=LATER + timedelta(minutes=2))

    assert not never_live.live
    assert recorded() == {first, held}
    rows = lake.read(SERVED_HISTORY, release_id=held).where("user_id = 'bob'").collect()
    assert [row["item_ids"] for row in rows] == [["pot"]]  # of the table's version then


def test_a_backfilled_day_does_not_replace_a_later_one(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    newer = make_release(lists.paths, date(2024, 6, 2))
    published = publish(Lake(spark, lists.paths), lists, RUN_DATE, now=NOON)
    assert not published.live
    assert f"roll-back --to {published.manifest.release_id}" in published.reason
    assert live_release(lists.paths) == newer


def test_new_lists_of_the_same_day_are_a_new_release_and_a_damaged_one_is_rebuilt(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake = Lake(spark, lists.paths)
    first = publish(lake, lists, RUN_DATE, now=NOON).manifest
    write_lists(Path(lists.paths.lake_uri), LISTS | {"bob": (["pot"], [1.0], ["model"])})

    second = publish(lake, lists, RUN_DATE, now=LATER).manifest

    assert second.release_id != first.release_id
    assert served(lists.paths)["bob"] == [("pot", 1.0, "model")]
    data = release_folder(lists.paths, second.release_id) / DATA_FILE
    whole = data.read_bytes()
    data.write_bytes(whole[:-1] + b"x")
    again = publish(lake, lists, RUN_DATE, now=LATER)
    assert (again.built, again.live) == (True, True)
    assert data.read_bytes() == whole


def no_popular_items(shop: RecsysConfig) -> None:
    rows = [{"segment": "France", "rank": 1, "item_id": "tea", "score": 1.0}]
    write_table(Path(shop.paths.lake_uri), POPULAR_ITEMS, rows)


def model_is_gone(shop: RecsysConfig) -> None:
    write_scoring_record(shop.paths, recipe=Recipe(name="blend", model=1.0))


def model_is_damaged(shop: RecsysConfig) -> None:
    manifest = {
        "model_version": "m1", "as_of": "2024-06-01", "embedding_dim": 8, "history_length": 2,
        "num_items": 3, "epochs": 1, "files": {"model.onnx": "0" * 64},
    }  # fmt: skip
    write_atomically(shop.paths.models / "m1" / "manifest.json", json.dumps(manifest).encode())
    (shop.paths.models / "m1" / "model.onnx").write_bytes(b"not what was exported")


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (no_popular_items, Refused, "popular_items has no rows for the whole shop"),
        (
            model_is_gone,
            MissingInput,
            r"no model at .*m1: run train first",
        ),
        (
            model_is_damaged,
            CorruptArtifact,
            r"m1/model\.onnx is damaged: sha256 .*run train and export_onnx again",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_old_release_stays(
    spark: SparkSession,
    lists: RecsysConfig,
    damage: Callable[[RecsysConfig], None],
    kind: type[Exception],
    message: str,
) -> None:
    old = make_release(lists.paths, date(2024, 5, 31))
    damage(lists)
    with pytest.raises(kind, match=message):
        publish(Lake(spark, lists.paths), lists, RUN_DATE, now=NOON)
    assert live_release(lists.paths) == old
    assert not Lake(spark, lists.paths).exists(RELEASES)


def test_a_day_that_was_not_scored_names_the_step_to_run(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    day = date(2024, 6, 2)
    with pytest.raises(MissingInput, match="run score_top_n for 2024-06-02 first"):
        publish(Lake(spark, lists.paths), lists, day, now=NOON)
    write_scoring_record(lists.paths, run_date=day)
    with pytest.raises(MissingInput, match="no rows as of 2024-06-02: run score_top_n"):
        publish(Lake(spark, lists.paths), lists, day, now=NOON)


def test_an_unreadable_pointer_stops_a_publish_before_the_work(config: RecsysConfig) -> None:
    write_atomically(pointer_path(config.paths), b"{")
    with pytest.raises(CorruptArtifact, match="is unreadable"):
        publish(cast(Lake, None), config, RUN_DATE, now=NOON)
    assert pointer_path(config.paths).read_bytes() == b"{"


def test_a_publish_makes_the_copy_of_a_list_of_blocked_items_that_has_none(
    config: RecsysConfig,
) -> None:
    block_item(config.paths, "tea", reason="recalled", now=NOON)
    copy_path(config.paths).unlink()  # as a version from before there were copies left it
    with pytest.raises(MissingInput):
        publish(cast(Lake, None), config, RUN_DATE, now=NOON)
    assert set(read_blocked(copy_path(config.paths))) == {"tea"}


def test_while_another_publish_runs_a_second_is_told_to_try_again(config: RecsysConfig) -> None:
    lock = config.paths.locks / "publish.lock"
    with (
        exclusive(lock, wait=False, what="the first"),
        pytest.raises(Conflict, match="a publish is already running"),
    ):
        publish(cast(Lake, None), config, RUN_DATE, now=NOON)


def test_hidden_items_sell_in_no_category_and_the_length_of_its_list_is_kept(
    spark: SparkSession,
) -> None:
    catalogue = spark.createDataFrame(
        [("tea", "Home > Kitchen"), ("cup", "Home > Kitchen"), ("pot", "Home"), ("bed", "Sleep"), ("x", None)],
        "item_id string, category string",
    )  # fmt: skip
    popularity = spark.createDataFrame(
        [("", "pot", 0.9, 1), ("", "cup", 0.8, 2), ("", "tea", 0.7, 3), ("France", "bed", 1.0, 1)],
        "segment string, item_id string, score double, rank int",
    )
    rules = spark.createDataFrame(
        [(1, "", ["pot"]), (1, "France", ["cup"]), (3, "", ["tea"]), (1, "", None)],
        "stage int, segment string, item_ids array<string>",
    )
    for n, home in ((2, ["cup", "tea"]), (1, ["cup"])):
        rows = popular_by_category(catalogue, popularity, hidden_items(rules), n=n).collect()
        found = {row["id"]: row["item_ids"] for row in rows}
        assert found == {"Home": home, "Home > Kitchen": home, "Sleep": []}


def test_what_was_bought_is_purchases_newest_first_on_the_shops_days(spark: SparkSession) -> None:
    shop = ShopConfig(time_zone="Europe/Paris")  # midnight of the run date is 22:00 UTC
    config = RecsysConfig(shop=shop, publish=PublishConfig(bought=2))
    events = [
        ("tea", "purchase", 300.5), ("cup", "view", 3.0), ("cup", "purchase", 1.0),
        ("pot", "purchase", 0.01),
    ]  # fmt: skip
    histories = spark.createDataFrame(
        [("ana", *map(list, zip(*events, strict=True))), ("bob", ["tea"], ["view"], [1.0])],
        "user_id string, item_ids array<string>, event_types array<string>, ages_days array<float>",
    )
    [row] = bought(histories, config, RUN_DATE).collect()
    assert row["id"] == "ana"
    assert orjson.loads(bytes(row["value"])) == [
        {"item_id": "pot", "event_type": "purchase", "date": "2024-05-31"},
        {"item_id": "cup", "event_type": "purchase", "date": "2024-05-31"},
    ]


def test_another_snapshot_of_the_same_tables_is_another_release(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake = Lake(spark, lists.paths)
    first = publish(lake, lists, RUN_DATE, now=NOON).manifest
    longer = lists.model_copy(update={"publish": PublishConfig(category_n=7)})
    second = publish(lake, longer, RUN_DATE, now=LATER)
    assert (second.built, second.manifest.release_id != first.release_id) == (True, True)


def test_manifests_and_actions_survive_their_files(tmp_path: Path) -> None:
    paths = PathsConfig(root=str(tmp_path))
    manifest = make_release(paths)
    assert ReleaseManifest.read(release_folder(paths, manifest.release_id)) == manifest
    action = Action(release_id="r", run_date=RUN_DATE, action="published", at=NOON)
    assert Action.model_validate_json(action.model_dump_json()) == action
