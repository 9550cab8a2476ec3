"""Whole nights of a generated shop: what was planted comes out, and each night's promise is kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from recsys.config import RecsysConfig
from recsys.records import EvaluationRecord, ScoringRecord, TrainingRecord
from recsys.release.pointer import live_release
from tests.integration.nights import NIGHT, Shop, ask

pytestmark = [
    pytest.mark.spark,
    pytest.mark.horovod,
    pytest.mark.timeout(1800),
]  # the first makes the nights

TOMORROW = NIGHT + timedelta(days=1)


def test_the_first_night_publishes_a_list_for_every_user(
    shop: Shop, first_night: RecsysConfig
) -> None:
    release = live_release(first_night.paths)
    assert release is not None and release.run_date == NIGHT
    [[users]] = ask(
        first_night.paths,
        f"select count(distinct user_id) from events where event_date < '{NIGHT}'",
    )
    assert users > 250, "the shop is not empty"
    assert release.counts["users"] >= users
    assert (
        ask(first_night.paths, "select count(*) from top_n_lists where len(item_ids) = 20")[0][0]
        >= users
    )


def test_the_model_learned_what_was_planted(shop: Shop, first_night: RecsysConfig) -> None:
    ndcg = dict(
        ask(
            first_night.paths,
            "select recommender, value from metrics where \"window\" = 'measuring' "
            "and targets = 'all' and metric = 'ndcg' and k = 10",
        )
    )
    assert ndcg["model"] > ndcg["popularity"], "users buy from their groups: popularity cannot know"
    assert ndcg["blend"] > ndcg["popularity"]
    assert ndcg["blend"] >= 0.05, "the floor for this shop and seed"


def test_tables_for_others_can_be_read_at_version_1(shop: Shop, first_night: RecsysConfig) -> None:
    from recsys.contracts import TABLES

    seen = 0
    for contract in TABLES.values():
        if shop.lake.exists(contract):
            detail = shop.lake.spark.sql(
                f"DESCRIBE DETAIL delta.`{shop.lake.path(contract)}`"
            ).first()
            assert detail is not None and detail["minReaderVersion"] == 1, contract.name
            seen += 1
    # consistency and clean_ups are written by jobs of their own.
    assert seen >= len(TABLES) - 3


def test_the_same_night_again_gives_the_same_content(shop: Shop, first_night: RecsysConfig) -> None:
    from recsys import contracts

    tables = (
        contracts.HISTORIES,
        contracts.ITEM_SIMILARITY,
        contracts.TOP_N_LISTS,
        contracts.SIMILAR_ITEMS,
        contracts.ALSO_BOUGHT,
    )
    before = {table.name: shop.lake.content_hash(table, as_of=NIGHT) for table in tables}
    release = live_release(first_night.paths)
    steps = ("build_features", "build_candidates", "score_top_n", "publish")
    shop.night(NIGHT, "gate.bootstrap=true", steps=steps)
    assert {table.name: shop.lake.content_hash(table, as_of=NIGHT) for table in tables} == before
    again = live_release(first_night.paths)
    assert release is not None and again is not None
    assert again.release_id == release.release_id, "same content, same release"


def test_a_refused_model_leaves_a_good_second_night(
    first_night: RecsysConfig, second_night: RecsysConfig
) -> None:
    paths = second_night.paths
    assert TrainingRecord.read(paths, TOMORROW).trained
    assert not EvaluationRecord.read(paths, TOMORROW).passed
    assert ScoringRecord.read(paths, TOMORROW).model_age_days == 1
    second = live_release(paths)
    assert second is not None and second.run_date == TOMORROW
    assert second.model.as_of == NIGHT, "the first night's model scores on"
    assert second.model.age_days == 1
    assert "min_ndcg_at_10" in second.model.reason

    # What was bought on day 2 was on offer the night before and is gone from day 2's lists.
    bought = set(
        ask(
            paths,
            "select user_id, item_id from events "
            f"where event_type = 'purchase' and event_date = '{NIGHT}' and user_id is not null",
        )
    )
    assert len(bought) > 20
    assert bought & set(ask(paths, f"select user_id, item_id from top_n where as_of = '{NIGHT}'"))
    assert not bought & set(
        ask(paths, f"select user_id, item_id from top_n where as_of = '{TOMORROW}'")
    )


def test_a_viewed_item_is_still_offered_and_a_bought_one_is_not(second_night: RecsysConfig) -> None:
    assert second_night.shop.exclude_seen
    acts = f"select distinct user_id, item_id from events where event_date < '{TOMORROW}' and event_type = "
    bought = set(ask(second_night.paths, acts + "'purchase'"))
    only_viewed = set(ask(second_night.paths, acts + "'view'")) - bought
    offered = set(
        ask(second_night.paths, f"select user_id, item_id from top_n where as_of = '{TOMORROW}'")
    )
    assert bought and only_viewed
    assert not offered & bought
    assert offered & only_viewed
