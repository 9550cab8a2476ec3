from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluation.intervals import Bootstrap
from recsys.evaluation.measuring import Measured
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.report import metrics_table, recipe_in_words, write_chart
from recsys.evaluation.rows import best_baseline, metric_rows
from recsys.records import Recipe

DAY = date(2024, 6, 1)


def measured(users: int = 400) -> Measured:
    """blend is better than popularity by about 0.1 for each user; a quarter have no first purchases."""
    rng = np.random.default_rng(17)
    base = rng.uniform(0, 0.5, size=(users, 2, len(METRICS), 1))
    base[: users // 4, 1] = np.nan
    noise = rng.normal(0.1, 0.02, size=base.shape)
    return Measured(
        window="measuring", cut_off=DAY, ks=(10,),
        by_user={"popularity": base, "blend": base + noise, "item_item": base.copy()},
        coverage={name: {10: 0.5} for name in ("popularity", "blend", "item_item")},
    )  # fmt: skip


def test_paired_differences_are_narrower_than_the_figures_themselves() -> None:
    bootstrap = Bootstrap.of(measured(), rounds=300, seed=1)

    blend = bootstrap.estimate("blend", "all", "ndcg", 10)
    gain = bootstrap.difference("blend", "popularity", "all", "ndcg", 10)

    assert blend.low < blend.value < blend.high
    assert gain.value == pytest.approx(0.1, abs=0.005)
    assert gain.high - gain.low < (blend.high - blend.low) / 3
    assert gain.low > 0


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    shop = measured(2000)
    found = Bootstrap.of(shop, rounds=1000, seed=1).estimate("popularity", "all", "ndcg", 10)
    values = shop.by_user["popularity"][:, 0, 1, 0]

    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.value - half, found.value + half), abs=half / 5
    )


def test_users_without_first_purchases_are_not_measured_there() -> None:
    bootstrap = Bootstrap.of(measured(400), rounds=100, seed=1)
    values = measured(400).by_user["blend"][100:, 1, 1, 0]

    found = bootstrap.estimate("blend", "first", "ndcg", 10)

    assert found.num_users == 300
    assert found.value == pytest.approx(values.mean())


def test_a_nan_of_one_user_shows_in_the_figure() -> None:
    shop = measured()
    shop.by_user["blend"][7, 0, 1, 0] = np.nan

    found = Bootstrap.of(shop, rounds=100, seed=1).estimate("blend", "all", "ndcg", 10)

    assert np.isnan(found.value)


def test_nobody_measured_gives_no_figures_rather_than_an_error() -> None:
    found = Bootstrap.of(measured(0), rounds=100, seed=1).estimate("blend", "all", "ndcg", 10)

    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.num_users == 0


def test_the_same_seed_gives_the_same_rows() -> None:
    rows = [
        metric_rows(
            Bootstrap.of(measured(), rounds=100, seed=3), DAY, compared_with=("popularity",)
        )
        for _ in range(2)
    ]

    assert rows[0] == rows[1]


def test_the_table_shows_every_recommender_with_its_interval(tmp_path: Path) -> None:
    bootstrap = Bootstrap.of(measured(), rounds=100, seed=3)
    assert best_baseline(bootstrap, 10) == "popularity"  # a tie goes to the earlier name
    rows = metric_rows(bootstrap, DAY, compared_with=("popularity",))

    text = metrics_table(rows, Recipe(name="blend", repeat=0.5, decay=0.95))

    assert text.startswith("blend: model 0, repeat 0.5, decay 0.95\n")
    assert "all purchases, measuring window from 2024-06-01, k = 10" in text
    assert "first purchases alone" in text
    lines = [line for line in text.splitlines() if "blend " in line and "[" in line]
    assert len(lines) == 2 and "+.1" in lines[0]

    html, png = write_chart(rows, tmp_path)
    assert b"<script src" not in html.read_bytes()  # self-contained: opens offline
    assert png.read_bytes().startswith(b"\x89PNG")


def test_recipe_in_words_tells_a_model_weight_of_nothing() -> None:
    assert recipe_in_words(Recipe(name="b", transitions=0.6, decay=0.7, targets_only=True)) == (
        "model 0, transitions 0.6, decay 0.7, item-item from purchases only"
    )
