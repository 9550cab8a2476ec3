"""evaluate on a shop with a known answer: the choice, the figures, the gate, and what is left behind."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import structlog

from jobs import evaluate
from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.gate import GateConfig
from recsys.config.sections import EvaluationConfig
from recsys.errors import Refused
from recsys.evaluation.live_recipe import Live
from recsys.evaluation.nightly import Evaluation, evaluate_models
from recsys.evaluation.recommenders import BASELINES
from recsys.lake import Lake
from recsys.records import EvaluationRecord, Recipe, TrainingRecord
from tests.evaluation.shop import (
    NUM_USERS,
    RUN_DATE,
    WINDOW_DAYS,
    write_late_item,
    write_models,
    write_ranking_models,
    write_shop,
)

pytestmark = pytest.mark.spark


@pytest.fixture
def shop_config(config: RecsysConfig) -> RecsysConfig:
    """Small windows and floors for a shop of 40 users; a first release is not allowed."""
    return config.model_copy(
        update={
            "evaluation": EvaluationConfig(
                window_days=WINDOW_DAYS, bootstrap_rounds=100, slice_users=NUM_USERS
            ),
            "gate": GateConfig(min_users=10),
        }
    )


def figures(lake: Lake) -> dict[tuple[str, str, str, str], float]:
    """(window, recommender, targets, metric) -> value at 10, as the table has it."""
    rows = lake.read(contracts.METRICS, run_date=RUN_DATE).where("k = 10").collect()
    return {(r.window, r.recommender, r.targets, r.metric): r.value for r in rows}


def test_a_night_with_a_new_model(
    lake: Lake, shop_config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused where nothing is live to fall back on; beside a live release, passed."""
    write_shop(lake, shop_config)
    training = TrainingRecord(
        run_date=RUN_DATE, trained=True, reason="due", models=write_models(shop_config)
    )
    training.write(shop_config.paths)
    exported: list[Path] = []
    monkeypatch.setattr(
        evaluate, "export_model", exported.append
    )  # hand-made models are exported already

    with pytest.raises(
        Refused, match=r"live_recipe .no release is live.*No release is live to fall back on"
    ):
        evaluate.run(lake, shop_config, RUN_DATE)

    assert [folder.name for folder in exported] == ["choosing", "measuring"]
    record = EvaluationRecord.read(shop_config.paths, RUN_DATE)
    assert not record.passed
    assert record.recipe is not None and record.recipe.transitions + record.recipe.similarity > 0
    found = figures(lake)
    # The next item in the circle is bought the next day: one of 4 targets, and in all lists' first place.
    assert found["measuring", "transitions", "all", "mrr"] == 1
    assert (
        found["measuring", "blend", "all", "ndcg"]
        >= found["measuring", "transitions", "all", "ndcg"]
    )
    assert {name for _, name, _, _ in found} >= {
        *BASELINES,
        "blend",
        "model",
        "blend_without_model",
    }
    assert found["measuring", "model", "all", "ndcg_above_popularity"] is not None
    # 14 of the 15 items were bought before: the one first purchase is the next item, and nobody's repeat.
    assert found["measuring", "transitions", "first", "recall"] == 1
    assert found["measuring", "last_purchases", "first", "recall"] == 0
    rows = lake.read(contracts.METRICS, window="measuring", recommender="blend").collect()
    assert {row.num_users for row in rows} == {NUM_USERS}
    verdicts = {
        r.rule: r.verdict for r in lake.read(contracts.GATE_VERDICTS, run_date=RUN_DATE).collect()
    }
    assert verdicts.pop("live_recipe") == "refused"
    assert set(verdicts.values()) == {"ok"}
    page = Path(shop_config.paths.reports) / str(RUN_DATE) / "evaluation_report.html"
    assert "the gate refused: live_recipe" in page.read_text()
    card = shop_config.paths.models / "release-model" / "model_card.md"
    assert card.read_text().startswith("# Model release-model of ")
    # Each of the 15 items is somebody's next one, so all are offered; 10 of 15 were had in the last 10 days.
    assert found["measuring", "transitions", "all", "coverage"] == 1
    assert found["measuring", "last_purchases", "all", "repeat_share"] == 1
    assert found["measuring", "popularity", "all", "popularity_lift"] == pytest.approx(0, abs=1e-9)
    parts = {
        (r.slice, r.part): r
        for r in lake.read(contracts.METRIC_SLICES, run_date=RUN_DATE)
        .where("recommender = 'blend' and metric = 'ndcg'")
        .collect()
    }
    assert parts["segment", "unknown"].value == found["measuring", "blend", "all", "ndcg"]
    assert parts["history_length", "5-19"].num_targets == NUM_USERS * WINDOW_DAYS
    assert parts["history_length", "5-19"].enough and not parts["popularity_decile", "1"].enough

    # The same night beside a live release of the same recipe: the same figures, and an exact tie passes.
    live = Live("2024-06-01-abc", record.recipe)
    second = evaluate_models(lake, shop_config, RUN_DATE, training, live)
    assert second.record.passed and second.record.model_version == "release-model"
    again = figures(lake)
    assert {key: again[key] for key in found} == found
    assert again["measuring", "live", "all", "ndcg"] == found["measuring", "blend", "all", "ndcg"]
    assert second.table.startswith("blend: model ") and "last_purchases" in second.table


def test_what_knows_of_later_days_is_refused_whatever_is_live(
    lake: Lake, shop_config: RecsysConfig
) -> None:
    """The tables of the measuring day hold an item that was first bought on that day."""
    write_shop(lake, shop_config)
    cut_off = shop_config.evaluation.cut_offs(RUN_DATE).measuring
    write_late_item(lake, "i99", known_as_of=cut_off, first_bought=cut_off)
    training = TrainingRecord(
        run_date=RUN_DATE, trained=True, reason="due", models=write_models(shop_config)
    )
    EvaluationRecord(run_date=RUN_DATE, passed=True, reason="of an earlier run").write(
        shop_config.paths
    )
    live = Live("2024-06-01-abc", Recipe(name="blend", transitions=1.0))

    with pytest.raises(
        Refused, match=r"popularity, item_id 'i99': its first event is of 2024-06-25"
    ):
        evaluate_models(lake, shop_config, RUN_DATE, training, live)

    assert EvaluationRecord.read_if_there(shop_config.paths, RUN_DATE) is None
    assert not lake.exists(contracts.METRICS)


def test_a_night_with_ranking_models(lake: Lake, shop_config: RecsysConfig) -> None:
    """They are asked about every item shown; whether stage 2 helps is in the table either way."""
    write_shop(lake, shop_config)
    ranking, answers = write_ranking_models(shop_config)
    training = TrainingRecord(
        run_date=RUN_DATE, trained=True, reason="due", models=write_models(shop_config),
        ranking=ranking, answers=answers,
    )  # fmt: skip
    live = Live("2024-06-01-abc", Recipe(name="blend", transitions=1.0, rerank=50))

    found = evaluate_models(lake, shop_config, RUN_DATE, training, live)

    # A model that prefers item 15, whoever asks, does not help where everybody walks in a circle.
    assert found.chosen is not None and found.chosen.other is not None
    assert not found.chosen.blend.re_ranks and found.record.ranking_version == ""
    rows = figures(lake)
    assert rows["measuring", "blend_reranked", "all", "ndcg_above_blend"] <= 0
    assert rows["choosing", "blend_reranked", "all", "ndcg_above_blend"] <= 0
    assert (
        rows["measuring", "live", "all", "ndcg"] < rows["measuring", "transitions", "all", "ndcg"]
    )
    asked = lake.read(contracts.METRICS, run_date=RUN_DATE).where("k = 0").collect()
    values = {(row.recommender, row.metric): row.value for row in asked}
    assert values["ranking_linear", "auc"] == 1
    assert values["ranking_linear", "log_loss_above_ranking_popularity"] < 0
    assert {row.window for row in asked} == {"measuring"}
    assert "ranking_popularity" in found.table

    # Ranking was disabled since: the live recipe is compared without what it cannot have.
    alone = training.model_copy(update={"ranking": {}})
    with structlog.testing.capture_logs() as logs:
        evaluate_models(lake, shop_config, RUN_DATE, alone, live)
    assert "live_recipe_without" in [one["event"] for one in logs]
    [rule] = lake.read(contracts.GATE_VERDICTS, run_date=RUN_DATE, rule="live_recipe").collect()
    assert "at the same cut-off without stage 2 (no ranking model was fitted at that" in rule.reason
    page = shop_config.paths.reports / str(RUN_DATE) / "evaluation_report.html"
    assert "; but the live recipe was measured without stage 2" in page.read_text()
    rows = figures(lake)
    assert rows["measuring", "live", "all", "mrr"] == rows["measuring", "transitions", "all", "mrr"]
    assert not [name for _, name, _, _ in rows if "rank" in name]


def test_no_model_due_and_a_live_release(
    lake: Lake, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = night_without_a_model(lake, config, monkeypatch, live=True)

    assert found.record == EvaluationRecord.read(config.paths, RUN_DATE)
    assert (found.record.passed, found.record.reason) == (False, "no new model: 3 days old")
    assert found.table == "no new model: 3 days old"


def test_no_model_due_and_no_release(
    lake: Lake, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match=r"no new model: 3 days old. No release is live"):
        night_without_a_model(lake, config, monkeypatch, live=False)


def night_without_a_model(
    lake: Lake, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch, *, live: bool
) -> Evaluation:
    TrainingRecord(run_date=RUN_DATE, trained=False, reason="3 days old").write(config.paths)

    class Release:
        release_id = f"{date(2024, 6, 26)}-abc"
        recipe = Recipe(name="blend", transitions=1.0)

    monkeypatch.setattr(evaluate, "live_release", lambda _: Release if live else None)
    return evaluate.run(lake, config, RUN_DATE)
