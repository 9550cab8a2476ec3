"""score_top_n on a shop of five items: which model scores, what a night without a new model does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import score_top_n
from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import CorruptArtifact, Refused
from recsys.export import export_release_ranking
from recsys.export.histories import read_ranking_users
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import EvaluationRecord, Recipe, ScoringRecord
from recsys.release.manifest import CodeVersion, ReleaseManifest, ReleaseModel
from recsys.release.pointer import Pointer, release_folder, write_pointer
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import score_users, scoring_task, users_to_score
from tests.scoring.ranking_worlds import ranking_folder
from tests.scoring.worlds import model_folder

pytestmark = pytest.mark.spark

DAY_1, DAY_2 = date(2024, 6, 1), date(2024, 6, 2)
RELEASE = "2024-06-01-abcdef012345"
ITEMS = ["tea", "cup", "pot", "jam", "bun"]  # numbers 1 to 5; bun came after the model
RECIPE = Recipe(name="blend", model=0.5, similarity=0.4, transitions=0.6, popularity=0.1, decay=0.7)


Day = tuple[dict[str, list[str]], list[tuple[str, str, float]]]
"""Histories by user, oldest first, and pairs that serve as similarity and as transitions."""


def write(lake: Lake, contract: contracts.TableContract, rows: list[tuple[Any, ...]]) -> None:
    """Straight to Delta: the lake's checks are tested elsewhere, and take their time."""
    df = local_rows(lake.spark, rows, struct_type(contract)).coalesce(1)
    df.write.format("delta").save(lake.path(contract))


def write_tables(lake: Lake, days: dict[date, Day]) -> None:
    num = {item: place for place, item in enumerate(ITEMS, start=1)}
    write(lake, contracts.VOCABULARIES, [("item", day, i, num[i]) for day in days for i in ITEMS])
    histories = [
        (
            user, day, "UK", items, [num[i] for i in items], ["purchase"] * len(items),
            [float(age) for age in range(len(items), 0, -1)], False,
        )
        for day, (users, _) in days.items()
        for user, items in users.items()
    ]  # fmt: skip
    write(lake, contracts.HISTORIES, histories)
    write(lake, contracts.SEEN_ITEMS, [("ana", day, [1]) for day in days])
    pairs = [(a, day, b, num[a], num[b], s, 1) for day in days for a, b, s in days[day][1]]
    write(lake, contracts.ITEM_SIMILARITY, pairs)
    write(lake, contracts.TRANSITIONS, pairs)
    shop = [("", day, i, num[i], 0.1, 10 - num[i], num[i]) for day in days for i in ITEMS]
    france = [("France", day, "jam", 4, 0.9, 500, 1) for day in days]
    write(lake, contracts.POPULARITY, shop + france)
    items = [
        ("cup", date(2024, 1, 1), 0),  # out of stock at first …
        ("cup", date(2024, 5, 1), 7),  # … and back before either day
        ("pot", DAY_1, 0),  # known from day 1 on, so it counts on day 2
    ]
    write(
        lake,
        contracts.ITEMS,
        [
            (i, day, i, None, None, None, stock, None, None, "s", f"{day}", {})
            for i, day, stock in items
        ],
    )
    write(lake, contracts.USERS, [("new", date(2024, 5, 1), "France", "s", "f", {})])


def publish(config: RecsysConfig, version: str, as_of: date) -> None:
    """A live release, as publish leaves it."""
    manifest = ReleaseManifest(
        release_id=RELEASE, run_date=as_of, shop="demo", content_hash="c", tables={}, lists={},
        model=ReleaseModel(version=version, as_of=as_of, hash="h", age_days=0, reason="new"),
        recipe=RECIPE, config_hash="h", code=CodeVersion(package="0", commit=""),
    )  # fmt: skip
    folder = release_folder(config.paths, RELEASE)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest.to_json())
    write_pointer(config.paths, Pointer(release_id=RELEASE, at=datetime(2024, 6, 1, tzinfo=UTC)))


def hand_made_model(
    config: RecsysConfig, version: str = "hand-made", *, proven: bool = True
) -> Path:
    vectors = np.array([[0, 0], [1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    return model_folder(config.paths.models, vectors, version=version, as_of=DAY_1, proven=proven)


def lists(lake: Lake, as_of: date) -> dict[str, list[str]]:
    return {
        row.user_id: row.item_ids for row in lake.read(contracts.TOP_N_LISTS, as_of=as_of).collect()
    }


def test_a_refused_model_leaves_the_live_one_scoring_todays_purchases(
    lake: Lake, config: RecsysConfig
) -> None:
    hand_made_model(config)
    # On day 1 ana bought jam, which goes with bun, an item newer than the model.
    day_1: Day = ({"ana": ["tea"], "bob": ["pot"]}, [("tea", "cup", 0.5)])
    day_2: Day = (
        {"ana": ["tea", "jam"], "bob": ["pot"]},
        [("tea", "cup", 0.5), ("jam", "bun", 0.9)],
    )
    write_tables(lake, {DAY_1: day_1, DAY_2: day_2})
    EvaluationRecord(
        run_date=DAY_1,
        passed=True,
        reason="all rules passed",
        recipe=RECIPE,
        model_version="hand-made",
    ).write(config.paths)
    first = score_top_n.run(lake, config, DAY_1)
    assert (first.model_age_days, first.reason) == (0, "all rules passed")
    assert lists(lake, DAY_1)["ana"][0] == "cup"  # goes with tea
    assert "pot" in lists(lake, DAY_1)["bob"]
    assert lists(lake, DAY_1)["new"][0] == "jam"  # no history: what France buys
    publish(config, "hand-made", DAY_1)

    EvaluationRecord(run_date=DAY_2, passed=False, reason="the gate refused best_baseline").write(
        config.paths
    )
    second = score_top_n.run(lake, config, DAY_2)

    assert lists(lake, DAY_2)["ana"][0] == "bun"  # newer than the model, through item-item
    assert "pot" not in lists(lake, DAY_2)["bob"]  # today's stock
    assert (second.model_version, second.model_age_days) == ("hand-made", 1)
    assert second.reason == (
        "the live model of 2024-06-01 (1 days old) scores on: the gate refused best_baseline"
    )
    assert ScoringRecord.read(config.paths, DAY_2) == second
    shelf = lake.read(contracts.SIMILAR_ITEMS, as_of=DAY_2).orderBy("item_id").collect()
    assert [(row.item_id, row.rank, row.similar_item_id) for row in shelf] == [
        ("jam", 1, "bun"),
        ("tea", 1, "cup"),
    ]
    popular = lake.read(contracts.POPULAR_ITEMS, as_of=DAY_2).orderBy("segment", "rank").collect()
    assert [row.item_id for row in popular if row.segment == ""] == ["tea", "cup", "jam", "bun"]
    assert next(row.item_id for row in popular if row.segment == "France") == "jam"

    # Another partitioning and other batches give the same bits.
    kit = build_kit(lake, config, DAY_2)
    users = users_to_score(lake, DAY_2, exclude_seen=True)
    with scoring_task(lake.spark, config, kit, ("hand-made",)) as task:
        alone = replace(task, batch_users=1)
        again = score_users(users, alone, Entry(RECIPE, "hand-made"), n=100, partitions=3).collect()
    columns = ("user_id", "item_ids", "scores", "sources")
    written = lake.read(contracts.TOP_N_LISTS, as_of=DAY_2).select(*columns).collect()
    assert sorted(row[:4] for row in again) == sorted(tuple(row) for row in written)


def test_a_corrupt_encoder_is_refused_before_anything_is_written(
    lake: Lake, config: RecsysConfig
) -> None:
    folder = hand_made_model(config)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    EvaluationRecord(
        run_date=DAY_1, passed=True, reason="ok", recipe=RECIPE, model_version="hand-made"
    ).write(config.paths)

    with pytest.raises(
        CorruptArtifact, match=r"model.onnx is damaged: sha256 .*run train and export_onnx again"
    ):
        score_top_n.run(lake, config, DAY_1)

    assert not lake.exists(contracts.TOP_N_LISTS)
    assert ScoringRecord.read_if_there(config.paths, DAY_1) is None


def test_a_new_model_whose_export_was_not_proven_leaves_the_live_one_scoring(
    lake: Lake, config: RecsysConfig
) -> None:
    hand_made_model(config, "old")
    hand_made_model(config, "new", proven=False)
    write_tables(lake, {DAY_2: ({"ana": ["tea"]}, [("tea", "cup", 0.5)])})
    EvaluationRecord(
        run_date=DAY_2, passed=True, reason="ok", recipe=RECIPE, model_version="new"
    ).write(config.paths)

    with pytest.raises(
        Refused, match=r"model new passed .* names no parity\.json: .*Nothing .* Run export_onnx"
    ):
        score_top_n.run(lake, config, DAY_2)
    assert not lake.exists(contracts.TOP_N_LISTS)

    publish(config, "old", DAY_1)
    record = score_top_n.run(lake, config, DAY_2)
    assert (record.model_version, record.model_as_of) == ("old", DAY_1)
    assert record.reason.startswith(
        "the live model of 2024-06-01 (1 days old) scores on: model new"
    )
    assert "run export_onnx again" in record.reason


def test_a_run_that_breaks_off_leaves_no_record_of_other_lists(
    lake: Lake, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_made_model(config)
    write_tables(lake, {DAY_1: ({"ana": ["tea"]}, [("tea", "cup", 0.5)])})
    EvaluationRecord(
        run_date=DAY_1, passed=True, reason="ok", recipe=RECIPE, model_version="hand-made"
    ).write(config.paths)
    earlier = ScoringRecord(
        run_date=DAY_1, model_version="another", model_as_of=DAY_1, model_age_days=0, reason="new", recipe=RECIPE
    )  # fmt: skip
    earlier.write(config.paths)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Lake, "replace_by_arrow", full)
    with pytest.raises(OSError, match="no space"):
        score_top_n.run(lake, config, DAY_1)
    assert ScoringRecord.read_if_there(config.paths, DAY_1) is None, "publish must not believe it"


def test_without_a_model_and_without_a_release_the_job_says_what_to_do(
    lake: Lake, config: RecsysConfig
) -> None:
    with pytest.raises(
        Refused, match=r"no evaluation of this run date.*no release is live.*--bootstrap"
    ):
        score_top_n.run(lake, config, DAY_1)


def test_a_recipe_that_re_ranks_scores_with_the_release_s_proven_ranking_model(
    lake: Lake, config: RecsysConfig
) -> None:
    hand_made_model(config)
    pairs = [("tea", "cup", 0.9), ("tea", "jam", 0.3), ("tea", "bun", 0.1)]
    write_tables(lake, {DAY_2: ({"ana": ["tea"], "bob": ["bun"]}, pairs)})
    users = [("user", DAY_2, "ana", 1), ("user", DAY_2, "bob", 2)]
    df = local_rows(lake.spark, users, struct_type(contracts.VOCABULARIES))
    df.write.format("delta").mode("append").save(lake.path(contracts.VOCABULARIES))
    re_ranking = Recipe(name="blend", similarity=1.0, popularity=0.1, rerank=3)
    EvaluationRecord(
        run_date=DAY_2, passed=True, reason="ok", recipe=re_ranking, model_version="hand-made",
        ranking_version="ranks",
    ).write(config.paths)  # fmt: skip
    # The ranking model knows tea, cup, pot and jam, and prefers what comes later; bun's logit is 0.
    folder = ranking_folder(config.paths.models, [1, 2, 3, 4], as_of=DAY_1, proven=False)

    with pytest.raises(Refused, match=r"ranking model ranks passed .* names no parity\.json"):
        score_top_n.run(lake, config, DAY_2)
    proof = export_release_ranking(lake, config, DAY_2, folder)
    assert (proof.users, proof.max_difference) == (2, 0)
    record = score_top_n.run(lake, config, DAY_2)

    assert record.ranking_version == "ranks"
    assert ScoringRecord.read(config.paths, DAY_2) == record
    found = lists(lake, DAY_2)
    assert found["ana"] == ["jam", "cup", "bun", "tea"]  # stage 1: cup, jam, bun, then tea
    assert found["bob"] == ["tea", "cup", "jam", "bun"]  # knows bun alone: stage 1's order
    numbered = (
        users_to_score(lake, DAY_2, exclude_seen=True, numbered=True)
        .select("user_id", "user_num")
        .collect()
    )
    assert dict(numbered) == {"ana": 1, "bob": 2, "new": None}
    plain = users_to_score(lake, DAY_2, exclude_seen=True).select("user_num").distinct().collect()
    assert [row.user_num for row in plain] == [0]

    kept = read_ranking_users(lake, as_of=DAY_2, count=10)
    assert sorted(zip(kept.user_nums, kept.history_nums, strict=True)) == [(1, 1), (2, 5)]
    assert (kept.history_offsets.tolist(), kept.ages_days.tolist()) == ([0, 1, 2], [1, 1])
