"""What an increment wrote, against a full run with its inputs, what ``why_not`` says of it, and its release."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from recsys import contracts as t
from recsys.records import ScoringRecord
from recsys.release.pointer import release_folder
from recsys.scoring.scorer import Entry

if TYPE_CHECKING:
    from tests.scoring.changing_shop import Shop

FULL = date(2024, 6, 1)
NOW = datetime(2024, 6, 3, 3, tzinfo=UTC)


def lists(shop: Shop, as_of: date) -> dict[str, list[tuple[str, float, str]]]:
    rows = shop.lake.read(t.TOP_N_LISTS, as_of=as_of).collect()
    return {r.user_id: list(zip(r.item_ids, r.scores, r.sources, strict=True)) for r in rows}


def full_lists(shop: Shop, record: ScoringRecord) -> dict[str, list[tuple[str, float, str]]]:
    """What a full run gives with the record's inputs: everybody made anew from events, and scored."""
    from recsys.scoring.changes import Used
    from recsys.scoring.frozen import FrozenLake, rebuilt_users
    from recsys.scoring.kit_tables import build_ruled_again
    from recsys.scoring.spark import score_users, scoring_task

    as_of = record.full_as_of or record.run_date
    frozen = FrozenLake(shop.lake, shop.config, record.versions)
    used = Used(record.events_version, record.run_date)
    rankings = (record.ranking_version,) if record.ranking_version else ()
    users = rebuilt_users(frozen, shop.config, as_of, used, numbered=bool(rankings))
    kit = build_ruled_again(frozen, shop.lake, shop.config, as_of, record.run_date).kit
    entry = Entry(record.recipe, record.model_version, record.ranking_version)
    models = (record.model_version,)
    with scoring_task(shop.lake.spark, shop.config, kit, models, rankings) as task:
        rows = score_users(users, task, entry, n=8, partitions=1).collect()
    return {r.user_id: list(zip(r.item_ids, r.scores, r.sources, strict=True)) for r in rows}


def assert_as_a_full_run(shop: Shop, record: ScoringRecord) -> None:
    from recsys.scoring.same_lists import difference

    written, wanted = lists(shop, record.run_date), full_lists(shop, record)
    assert written.keys() == wanted.keys()
    differing = {u: why for u in written if (why := difference(written[u], wanted[u]))}
    assert not differing


def assert_said_why(shop: Shop, record: ScoringRecord) -> None:
    """What was kept from each user, and for which rule, is what ``why_not`` says of them."""
    from recsys.scoring.changes import Used
    from recsys.scoring.frozen import FrozenLake, rebuilt_users
    from recsys.sql.duck import open_lake
    from tests.scoring.changing_shop import ITEMS

    frozen = FrozenLake(shop.lake, shop.config, record.versions)
    used = Used(record.events_version, record.run_date)
    users = rebuilt_users(frozen, shop.config, record.inputs_as_of, used, numbered=False).collect()
    wanted = {
        (user.user_id, ITEMS[num - 1], rule)
        for user in users
        for rule, nums in (("seen", user.seen_nums), ("returned", user.hidden_nums))
        for num in nums or ()
    }
    question = "SELECT user_id, item_id, reason FROM why_not WHERE as_of = $day"
    with open_lake(shop.config.paths) as lake:
        answers = lake.query(question, {"day": record.run_date})[1]
        found = {(user, item, rule) for user, item, why in answers for rule in why.split(", ")}
    assert {said for said in found if said[2] in {"seen", "returned"}} == wanted


def assert_published_whole(shop: Shop, record: ScoringRecord) -> None:
    """A release of the increment has what is of the full run's day, too, and its audit scores with that clock."""
    from recsys.monitoring.fresh import compare_fresh
    from recsys.monitoring.tables import compare_tables
    from recsys.release.opening import open_release
    from recsys.release.publish import publish
    from recsys.release.stored_list import length

    published = publish(shop.lake, shop.config, record.run_date, now=NOW)
    assert published.live
    manifest = published.manifest
    assert (manifest.inputs_as_of, manifest.is_increment) == (FULL, True)
    assert manifest.events_version == record.events_version < manifest.tables["events"].version
    with open_release(release_folder(shop.config.paths, manifest.release_id)) as snapshot:
        assert snapshot.get("categories", "group 1")
        assert snapshot.get("bought", "u01")
        assert length(snapshot.get("also_bought", "i01") or b"\0\0\0\0")
    tables = compare_tables(shop.lake, manifest)
    assert (tables.verdict, tables.examples) == ("ok", ())
    inputs = {
        t.VOCABULARIES,
        t.HISTORIES,
        t.SEEN_ITEMS,
        t.ITEM_SIMILARITY,
        t.TRANSITIONS,
        t.POPULARITY,
    }
    named = {table.name: manifest.tables[table.name] for table in inputs}
    assert {name: table.version for name, table in named.items()} == {
        name: record.versions[name] for name in named
    }
    assert all(table.rows for table in named.values())
    fresh = compare_fresh(shop.lake, shop.config, manifest)
    assert (fresh.verdict, fresh.examples) == ("ok", ())
    assert fresh.checked == len(lists(shop, record.run_date))
