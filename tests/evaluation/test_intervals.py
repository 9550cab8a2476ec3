from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.evaluation.block import Block
from recsys.evaluation.intervals import (
    ByUser,
    Estimate,
    jackknifed,
    resampled_means,
    stretched,
)
from recsys.evaluation.list_figures import changes, of_all_lists
from recsys.evaluation.measured import Measured
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.report import metrics_table, recipe_in_words
from recsys.evaluation.rows import best_baseline, metric_rows
from recsys.records import Recipe
from tests.evaluation.measured import DAY, block, people
from tests.evaluation.measured import measured as measured_in


def everybody(users: int = 400) -> Block:
    """blend is better than popularity by about 0.1 for each user; a quarter have no first purchases."""
    rng = np.random.default_rng(17)
    has_first = np.arange(users) >= users // 4
    base = rng.uniform(0, 0.5, size=(users, 2, len(METRICS), 1))
    noise = rng.normal(0.1, 0.02, size=base.shape)
    has_targets = np.stack([np.ones(users, dtype=bool), has_first], axis=1)[:, :, None, None]
    whom = replace(people(*[[1]] * users), num_first_U=has_first.astype(np.int64))
    by_user = {"popularity": base, "blend": base + noise, "item_item": base.copy()}
    found = block(whom, {name: [[1]] * users for name in by_user})
    return replace(found, by_user={name: v * has_targets for name, v in by_user.items()})


def measured(users: int = 400, *, rounds: int = 300) -> Measured:
    return measured_in(everybody(users), num_items=2, rounds=rounds)


def test_paired_differences_are_narrower_than_the_figures_themselves() -> None:
    found = measured()

    blend = found.estimate("blend", "all", "ndcg", 10)
    gain = found.difference("blend", "popularity", "all", "ndcg", 10)

    assert blend.low < blend.value < blend.high
    assert gain.value == pytest.approx(0.1, abs=0.005)
    assert gain.high - gain.low < (blend.high - blend.low) / 3
    assert gain.low > 0


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    found = measured(2000, rounds=1000).estimate("popularity", "all", "ndcg", 10)
    values = everybody(2000).by_user["popularity"][:, 0, 1, 0]

    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.value - half, found.value + half), abs=half / 5
    )


def test_users_without_first_purchases_are_not_measured_there() -> None:
    values = everybody(400).by_user["blend"][100:, 1, 1, 0]

    found = measured(400).estimate("blend", "first", "ndcg", 10)

    assert found.num_users == 300
    assert found.value == pytest.approx(values.mean())


def test_a_nan_of_one_user_shows_in_the_figure() -> None:
    shop = everybody()
    shop.by_user["blend"][7, 0, 1, 0] = np.nan

    found = measured_in(shop, num_items=2).estimate("blend", "all", "recall", 10)
    broken = measured_in(shop, num_items=2).estimate("blend", "all", "ndcg", 10)

    assert np.isnan(broken.value) and np.isfinite(found.value)


def test_nobody_measured_gives_no_figures_rather_than_an_error() -> None:
    shop = measured(0)
    found = shop.estimate("blend", "all", "ndcg", 10)

    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.num_users == shop.num_users == 0
    assert np.isnan(shop.churn["popularity"]) and shop.seen == ()
    assert shop.of_shop("blend", "coverage", 10).value == 0


def test_the_same_seed_gives_the_same_rows() -> None:
    rows = [metric_rows(measured(), DAY, compared_with=("popularity",)) for _ in range(2)]

    assert rows[0] == rows[1]


def test_the_table_shows_every_recommender_with_its_interval() -> None:
    found = measured()
    assert best_baseline(found, 10) == "popularity"  # a tie goes to the earlier name
    rows = metric_rows(found, DAY, compared_with=("popularity",))

    text = metrics_table(rows, Recipe(name="blend", repeat=0.5, decay=0.95))

    assert text.startswith("blend: model 0, repeat 0.5, decay 0.95\n")
    assert "all purchases, measuring window from 2024-06-01, k = 10" in text
    assert "first purchases alone" in text
    assert "from a bootstrap over 400 users, of coverage from a jackknife" in text
    assert "each for itself; differences are paired" in text
    lines = [line for line in text.splitlines() if "blend " in line and "[" in line]
    assert len(lines) == 2 and "+.1" in lines[0]


def test_the_bootstrap_copies_nothing_that_is_as_large_as_what_was_measured() -> None:
    """Seven metrics at three cut-offs of ten recommenders: counts of a few rounds, and means, are all it needs."""
    users, names = 20_000, [f"r{n}" for n in range(10)]
    values = np.random.default_rng(1).random((users, 2, 21))
    figures = {name: ByUser(values, np.ones((users, 2), dtype=bool)) for name in names}

    tracemalloc.start()
    resampled_means(figures, rounds=200, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(names) * values.nbytes


def test_a_figure_that_few_users_have_is_a_mean_over_these() -> None:
    values = np.array([[0.2, np.nan], [0.4, np.nan], [np.nan, 0.5]])

    [means] = resampled_means({"blend": ByUser.where_known(values)}, rounds=100, seed=1).values()

    assert means.at(0).value == pytest.approx(0.3) and means.at(0).num_users == 2
    assert means.at(1).value == means.at(1).low == 0.5


def test_the_jackknife_of_a_mean_is_that_of_the_textbook() -> None:
    """20 groups of one user each: the standard error of a mean, and Student's t with 19 degrees of freedom."""
    values = np.random.default_rng(3).normal(size=20)
    without = (values.sum() - values) / 19

    found = jackknifed(float(values.mean()), without, np.ones(20, np.int64))

    half = 2.0930240544 * values.std(ddof=1) / np.sqrt(20)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert found.num_users == 20
    assert np.isnan(jackknifed(0.5, without[:1], np.array([1])).low)


def test_groups_of_other_sizes_do_not_widen_the_interval() -> None:
    """What all lists show grows with the users, here by one each. Taken for a difference between groups it would be an
    interval of 4.6 on either side."""
    users = np.array([5] * 10 + [6] * 10)

    found = jackknifed(110.0, 110.0 - users, users)

    assert (found.low, found.high) == pytest.approx((110, 110), abs=0.3)


def test_the_interval_of_coverage_is_not_wider_for_a_few_users_more() -> None:
    """Of 110 users ten groups have one more. Fresh draws say how far coverage really varies; groups that were taken for
    equally large would make the interval twice as wide."""
    draw = np.random.default_rng(5)

    def drawn() -> NDArray[np.int32]:
        items = np.argsort(draw.random((110, 4000)), axis=1)[:, :10] + 1
        return items.astype(np.int32)

    found = [dict(of_all_lists(drawn(), np.arange(4001) > 0))["coverage"] for _ in range(40)]

    true_width = 2 * 1.96 * np.std([one.value for one in found], ddof=1)
    assert 0.9 < np.mean([one.high - one.low for one in found]) / true_width < 1.7


def test_the_interval_for_one_of_many_is_that_of_a_normal_mean() -> None:
    found = Estimate(-1.0, -1.0 - 1.959964, -1.0 + 1.959964, 100)

    alone, of_twenty = stretched(found, of=1), stretched(found, of=20)

    assert (alone.low, alone.high) == pytest.approx((found.low, found.high))
    # Two-sided at 5 % / 20 = .25 %: 3.0233 standard errors.
    assert (of_twenty.low, of_twenty.high) == pytest.approx((-4.0233, 2.0233), abs=1e-4)
    assert (of_twenty.value, of_twenty.num_users) == (-1.0, 100)


def test_coverage_and_gini_are_of_all_lists() -> None:
    lists = [[1, 2], [1, 2], [1, 3]]
    shop = measured_in(block(people([1], [1], [1]), {"blend": lists}), num_items=4)

    found = {one.metric: one.estimate for one in shop.list_figures()}

    assert set(found) == {"coverage", "gini"}  # of each list nothing was said
    assert found["coverage"].value == 3 / 4
    assert found["coverage"].num_users == 3
    assert (
        found["coverage"].low < 3 / 4 < found["coverage"].high
    )  # without the third user it is 2 / 4
    assert found["gini"].value == pytest.approx((-1 * 1 + 1 * 2 + 3 * 3) / (6 * 3))


def test_lists_that_are_all_here_have_the_same_coverage() -> None:
    lists_UK = np.array([[1, 2], [1, 2], [1, 3]], dtype=np.int32)

    found = dict(of_all_lists(lists_UK, np.arange(5) > 0))

    # Without the first or the second user it is 3 / 4 still, without the third 2 / 4: the jackknife of three groups.
    assert found["coverage"].value == 3 / 4 and found["coverage"].num_users == 3
    error = np.sqrt(2 / 3 * ((3 / 4 - 2 / 3) ** 2 * 2 + (2 / 4 - 2 / 3) ** 2))
    assert found["coverage"].high == pytest.approx(3 / 4 + 4.302652730 * error)


def test_popularity_lift_is_the_ratio_of_means_over_users() -> None:
    shop = block(people([1], [1], [1]), {"blend": [[1]] * 3})
    said = np.full((3, 6, 1), np.nan)
    said[:2, 4, 0], said[:2, 5, 0] = [0.4, 0.2], [0.1, 0.3]  # nothing is known of the third user
    shop = replace(shop, list_values={"blend": said})

    found = {one.metric: one.estimate for one in measured_in(shop, num_items=2).list_figures()}

    assert found["popularity_lift"].value == pytest.approx(0.6 / 0.4 - 1)
    assert found["popularity_lift"].num_users == 2


def test_churn_is_the_share_of_places_that_change() -> None:
    before = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int32)

    assert changes(before, before[:, ::-1]).tolist() == [0, 0, 0]  # another order is no change
    after = np.array([[1, 2], [3, 9], [8, 9]], dtype=np.int32)
    assert changes(before, after).tolist() == [0, 0.5, 1]


def test_lists_that_end_early_change_by_what_is_in_them() -> None:
    short = np.array([[1, 0, 0], [0, 0, 0]], dtype=np.int32)
    longer = np.array([[1, 2, 0], [0, 0, 0]], dtype=np.int32)

    assert changes(short, short).tolist() == [0, 0]
    assert changes(short, longer).tolist() == [0.5, 0]
    assert changes(longer, short).tolist() == [0.5, 0]
    assert changes(short, np.array([[2, 0, 0], [3, 0, 0]], dtype=np.int32)).tolist() == [1, 1]


def test_churn_is_of_the_first_ten_against_the_blend_s() -> None:
    eleven = list(range(1, 12))
    lists = {"blend": [eleven, eleven], "live": [[*eleven[:9], 20, 10], eleven]}

    found = measured_in(block(people([1], [1]), lists, ks=(10, 11)), num_items=20, ks=(10, 11))

    assert found.churn == {"blend": 0, "live": pytest.approx(0.1 / 2)}


def test_recipe_in_words_tells_a_model_weight_of_nothing() -> None:
    assert recipe_in_words(Recipe(name="b", transitions=0.6, decay=0.7, targets_only=True)) == (
        "model 0, transitions 0.6, decay 0.7, item-item from purchases only"
    )
