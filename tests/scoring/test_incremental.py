"""Increments against full runs with the same frozen inputs, and who is scored in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact, Refused
from recsys.records import EvaluationRecord, ScoringRecord
from tests.conftest import TEST_SPARK
from tests.scoring.same_as_full import (
    assert_as_a_full_run,
    assert_published_whole,
    assert_said_why,
    lists,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.scoring.increment import LiveLists
    from tests.scoring.changing_shop import Shop

pytestmark = pytest.mark.spark

FULL = date(2024, 6, 1)
NOW = datetime(2024, 6, 3, 3, tzinfo=UTC)
USERS = [f"u{n:02}" for n in range(40)]


def day(n: int) -> date:
    """``n`` days after the full run."""
    return FULL + timedelta(days=n)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Forty users, twenty days of trade and the full run after them."""
    from recsys.lake import Lake
    from tests.scoring.changing_shop import Shop, config_of

    paths = PathsConfig(root=str(tmp_path_factory.mktemp("changing")))
    config = config_of(RecsysConfig(paths=paths, spark=TEST_SPARK))
    made = Shop(Lake(spark, paths), config)
    made.stock["i05"] = made.stock["i06"] = 0
    for n in range(-20, 0):
        made.trade(day(n), USERS[n % 2 :: 2])
    made.deliver(*made.days)
    made.deliver_catalogue(day(-20))
    made.full_run()
    return made


@dataclass
class Said:
    """What an increment said of itself."""

    events: list[Any] = field(default_factory=list)

    def of(self, event: str) -> dict[str, Any]:
        [found] = [dict(one) for one in self.events if one["event"] == event]
        return found

    @property
    def scored(self) -> int:
        return int(self.of("lists_merged")["scored"])


@contextmanager
def listening() -> Iterator[Said]:
    said = Said()
    with capture_logs() as events:
        yield said
    said.events = list(events)


@contextmanager
def counting_rebuilds() -> Iterator[list[bool]]:
    """An entry each time that users are made from events."""
    from recsys.scoring.frozen import rebuilt_users

    found: list[bool] = []

    def counted(*args: Any, **named: Any) -> Any:
        found.append(True)
        return rebuilt_users(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.scoring.affected.rebuilt_users", counted)
        yield found


def test_a_full_run_made_anew_from_events_is_the_full_run(shop: Shop) -> None:
    assert_as_a_full_run(shop, ScoringRecord.read(shop.config.paths, FULL))


def test_two_days_are_what_full_runs_with_the_same_inputs_give(shop: Shop) -> None:
    # A day on which five act, one of them a stranger, and files of the week before come again as they were.
    shop.trade(day(0), ["u01", "u02", "u03", "stranger"], events=2)
    shop.act(day(0), "u04", "new item")  # it has no number until the next full run
    shop.act(day(0), "u05", "i01", "search")  # no list reads it
    shop.act(day(1), "u06", "i01")  # its day is the run date: not yet used
    shop.deliver(*(day(n) for n in range(-7, 2)))
    with listening() as said, counting_rebuilds() as rebuilds:
        first = shop.increment(day(1))
    assert said.scored == 4
    assert said.of("users_affected")["by_events"] == 4
    audited = said.of("increment_audited")
    assert (audited["users"] > 0, audited["differing"]) == (True, 0)
    assert rebuilds == [True], "who is audited is made from events with those affected"
    assert (first.full_as_of, first.reason.split(":")[0]) == (FULL, "what changed since 2024-06-01")
    assert_as_a_full_run(shop, first)
    before, after = lists(shop, FULL), lists(shop, day(1))
    assert {source for _, _, source in after["stranger"]} == {"popular"}
    assert all(after[user] == before[user] for user in USERS[4:])

    # Late news: one event is struck out, one came late; u06's counts now. i01 sells out, i05 is back.
    (gone, late) = next((e, row) for e, row in shop.days[day(-5)].items() if row[1] == "purchase")
    del shop.days[day(-5)][gone]
    shop.act(day(-3), "u07", "i02")
    shop.deliver(day(-5), day(-3))
    shop.stock |= {"i01": 0, "i05": 5}
    shop.deliver_catalogue(day(1))
    had = {user for user, places in after.items() if "i01" in {item for item, _, _ in places}}
    with listening() as said:
        second = shop.increment(day(2))
    assert said.of("users_affected")["by_events"] == len({"u06", "u07", late[2]})
    assert said.of("users_affected")["newly_hidden"] == 1
    assert said.of("users_affected")["newly_allowed"] == 1
    assert_as_a_full_run(shop, second)
    assert_said_why(shop, second)
    found = lists(shop, day(2))
    won = {user for user, places in found.items() if "i05" in {item for item, _, _ in places}}
    assert won, "what is back is offered"
    assert said.scored >= len(had | won | {"u06", "u07", late[2]})
    assert said.scored < len(found)
    rules = shop.lake.read(t.RULES, as_of=day(2)).where("rule = 'out_of_stock'").collect()
    assert [row.item_ids for row in rules] == [["i01", "i06"]]
    late_event = shop.act(day(-2), "u08", "i03")  # comes between scoring and publish: not yet used
    shop.deliver(day(-2))
    assert_published_whole(shop, second)
    del shop.days[day(-2)][late_event]
    shop.deliver(day(-2))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_days_are_what_full_runs_with_the_same_inputs_give(shop: Shop) -> None:
    from tests.scoring.changing_shop import ITEMS

    start = live_day(shop)
    hide = {"no_group_2": {"segments": ["north"], "hide": {"categories": ["group 2"]}}}
    today, skipped = shop, 0
    for n in range(10):
        run_date = start + timedelta(days=n + 1)
        news = run_date - timedelta(days=1)
        before = today.used(news)
        if n not in {3, 8}:  # two days on which nobody comes
            chosen = today.draw.choice(USERS, size=4, replace=False).tolist()
            today.trade(news, [*chosen, f"stranger{n % 4}"], events=2)
            today.deliver(*(day for day in today.days if news - timedelta(days=3) <= day <= news))
        if n in {2, 6}:  # what was wrong is struck out, weeks later
            old = start - timedelta(days=8 + n)
            today.days[old] = dict(list(today.days[old].items())[:-2])
            today.deliver(old)
        if n in {1, 4, 7}:
            gone, back = today.draw.choice(ITEMS, size=2, replace=False)
            today.stock |= {str(gone): 0, str(back): 5}
            today.deliver_catalogue(news)
        if n == 5:
            today = today.under(catalogue=hide, blocked_items=["i09", "i10"])
        if n == 9:
            today = today.under()
        changed = {row[2] for row in before ^ today.used(run_date)}
        with listening() as said:
            record = today.increment(run_date)
        assert said.of("users_affected")["by_events"] == len(changed), f"day {n}"
        assert said.of("increment_audited")["differing"] == 0
        assert_as_a_full_run(today, record)
        if n in {3, 8}:
            assert said.scored == 0
        skipped += said.scored < len(lists(today, run_date))
    assert record.full_as_of == FULL
    assert skipped == 10, "nobody was ever scored for no reason"


@pytest.mark.slow
def test_where_nothing_changed_nothing_is_scored(shop: Shop) -> None:
    live = live_day(shop)
    shop.deliver(day(-2), day(-1))  # rewritten, and equal
    with listening() as said:
        shop.increment(live + timedelta(days=1) if live == FULL else live)
    assert said.scored == 0
    assert_as_a_full_run(shop, ScoringRecord.read(shop.config.paths, live_day(shop)))


def live_day(shop: Shop) -> date:
    from recsys.release.pointer import read_pointer

    pointer = read_pointer(shop.config.paths)
    assert pointer is not None
    return pointer.run_date


@pytest.mark.slow
def test_a_rule_that_looks_at_the_list_means_everybody(shop: Shop) -> None:
    other = shop.under(max_per={"category": 1})
    live = live_day(shop)
    with listening() as said:
        record = other.increment(live)
    assert "max_per_category" in said.of("everybody_affected")["reason"]
    assert said.scored == len(lists(shop, live))
    assert_as_a_full_run(other, record)
    shop.increment(live)  # as it was


@pytest.mark.slow
def test_what_was_seen_is_hidden_no_longer_and_then_again(shop: Shop) -> None:
    """Everybody's list may be another; no full run is due."""
    live = live_day(shop)
    for hides in (False, True):
        settings = shop.config.shop.model_copy(update={"exclude_seen": hides})
        other = replace(shop, config=shop.config.model_copy(update={"shop": settings}))
        before = lists(shop, live)
        with listening() as said:
            record = other.increment(live)
        assert "seen" in said.of("everybody_affected")["reason"]
        assert said.scored == len(before)
        assert lists(shop, live) != before
        assert_as_a_full_run(other, record)


@pytest.mark.slow
def test_stage_two_knows_the_weekday_of_an_event_since_the_full_run(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from recsys.lake import Lake
    from tests.scoring.changing_shop import ITEMS, RECIPE, Shop, config_of
    from tests.scoring.ranking_worlds import ranking_folder

    paths = PathsConfig(root=str(tmp_path_factory.mktemp("reranked")))
    config = config_of(RecsysConfig(paths=paths, spark=TEST_SPARK))
    recipe = RECIPE.model_copy(update={"rerank": len(ITEMS)})
    shop = Shop(Lake(spark, paths), config, recipe=recipe, ranking_version="ranks")
    # Who came on a Friday is offered even numbers first, who came on a Saturday odd ones.
    logits, odd_on = [0.01 * num for num in range(len(ITEMS))], {5: -9.0, 6: 9.0}
    ranking_folder(paths.models, logits, num_users=20, as_of=FULL, odd_on=odd_on)
    for n in range(-4, 0):
        shop.trade(day(n), USERS[:12])
    shop.act(day(-1), "u01", "i02")
    shop.deliver(*shop.days)
    shop.deliver_catalogue(day(-4))
    assert shop.full_run().ranking_version == "ranks"
    assert FULL.isoweekday() == 6
    shop.act(day(0), "u01", "i01")
    shop.deliver(day(0))

    record = shop.increment(day(1))

    assert record.ranking_version == "ranks"
    assert_as_a_full_run(shop, record)
    before, after = lists(shop, FULL), lists(shop, day(1))
    is_odd, was_odd = (
        [int(item.removeprefix("i")) % 2 for item, _, _ in of["u01"]] for of in (after, before)
    )
    assert was_odd == sorted(was_odd) and is_odd == sorted(is_odd, reverse=True)
    assert (was_odd[0], is_odd[0]) == (0, 1)
    assert after["u02"] == before["u02"]


@pytest.mark.slow
def test_the_audit_names_a_list_that_was_carried_over_and_should_not_have_been(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.scoring.affected import Scene

    live = live_day(shop)
    shop.days[day(-6)] = {k: row for k, row in shop.days[day(-6)].items() if row[1] == "view"}
    shop.deliver(day(-6))
    nobody = shop.lake.spark.createDataFrame([], "user_id string")
    config = shop.config.model_copy(
        update={"scoring": shop.config.scoring.model_copy(update={"audit_users": 60})}
    )
    blind = replace(shop, config=config)
    version = shop.lake.version(t.TOP_N_LISTS)
    with monkeypatch.context() as patch:
        patch.setattr(Scene, "changed_since", lambda *_: nobody)
        with pytest.raises(
            CorruptArtifact, match=r"lists of 2024-06-\d\d are not what .*user 'u\d\d': "
        ):
            blind.increment(live)
    assert ScoringRecord.read_if_there(shop.config.paths, live) is None
    assert shop.lake.version(t.TOP_N_LISTS) == version, "nothing was committed"


def test_it_says_when_only_a_full_run_will_do(shop: Shop) -> None:
    from deltalake import write_deltalake

    from jobs import score_changes
    from recsys.scoring.increment import plan
    from tests.scoring.changing_shop import RECIPE

    live = score_changes.live_lists(shop.config)
    assert live is not None
    config, lake, later = shop.config, shop.lake, live.run_date + timedelta(days=60)

    def why(run_date: date = later, *, live: LiveLists | None = live, **scoring: Any) -> str:
        changed = config.scoring.model_copy(update=scoring)
        with pytest.raises(Refused, match="Run a full night for this run date") as refused:
            plan(lake, config.model_copy(update={"scoring": changed}), run_date, live)
        return str(refused.value)

    assert plan(lake, config, later, live).full_as_of == FULL
    assert why(incremental="never").startswith("scoring.incremental is never")
    assert why(live=None).startswith("no release is live")
    assert "of 2024-06-" in why(FULL - timedelta(days=1))
    assert "what conf says of events, histories or lists has changed" in why(n=9)
    assert "nothing says which tables" in why(live=replace(live, run_date=FULL - timedelta(days=9)))
    older = replace(live, versions={**live.versions, t.TOP_N_LISTS.name: 0}, lists_hash="another")
    assert "was scored again since it was published" in why(live=older)
    other = replace(live, model=replace(live.model, ranking_version="of another night"))
    assert "was scored again since it was published" in why(live=other)
    passed = EvaluationRecord(
        run_date=later, passed=True, reason="ok", recipe=RECIPE, model_version="hand-made"
    )
    passed.write(config.paths)
    assert plan(lake, config, later, live).full_as_of == FULL, "the same again is nothing new"
    passed.model_copy(update={"model_version": "newer"}).write(config.paths)
    assert f"a new model passed the gate of {later}" in why()
    re_ranks = RECIPE.model_copy(update={"rerank": 50})
    passed.model_copy(update={"recipe": re_ranks, "ranking_version": "r"}).write(config.paths)
    assert f"a new ranking model and a new recipe passed the gate of {later}" in why()
    EvaluationRecord.discard(config.paths, later)
    row = lake.read(t.ITEM_SIMILARITY).limit(1).toArrow().to_pydict() | {"as_of": [later]}
    schema = lake.read(t.ITEM_SIMILARITY).limit(0).toArrow().schema
    write_deltalake(
        lake.path(t.ITEM_SIMILARITY), pa.Table.from_pydict(row, schema=schema), mode="append"
    )
    assert "there are newer candidates than those of 2024-06-01" in why()
    assert plan(lake, config, later - timedelta(days=1), live).full_as_of == FULL
