"""Item-item by literal rows, and its figures on a public file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recsys.recommenders import Histories, Recommender, Shop, Users
from recsys.recommenders.item_item import ClassicItemItem, ItemItem, together
from recsys.recommenders.linear_items import LinearItems
from recsys.recommenders.shop import ItemNums
from recsys.recommenders.transitions import steps
from recsys.recommenders.user_user import UserUser
from tests.recommenders.worlds import histories

BEAUTY = Path(__file__).parents[3] / "shared/data/amazon_beauty/Beauty.txt"


def test_steps_count_by_their_gap_and_not_to_the_same_item() -> None:
    counted = steps(histories([[1, 2, 2, 3], [1, 0, 3]]), 3, gaps=2).toarray()

    assert counted[1].tolist() == [
        0,
        0,
        1 + 1 / 2,
        1,
    ]  # unknown items take no place: 1 -> 3 is a step
    assert counted[2].tolist() == [0, 0, 0, 1 + 1 / 2]
    assert counted[3].tolist() == [0, 0, 0, 0]


def test_a_user_counts_once_for_a_pair_of_items() -> None:
    both = together(histories([[1, 2, 1, 2], [2, 1], [3]]), 3).toarray()

    assert both[1, 2] == both[2, 1] == 2
    assert both.sum() == 4


def test_the_classic_is_its_formula() -> None:
    shop = Shop(3, histories([[1, 2], [1, 2], [3, 2]]))
    asked = Users(histories([[1]]), np.zeros(1, dtype=np.int64))

    [scores] = ClassicItemItem().fit(shop).scores(asked)

    cosine = 2 / (np.sqrt(2 * 3) + 5)
    step = 2 / (np.sqrt(2 * 3) + 1.5)
    assert scores[2] == pytest.approx(
        0.4 * cosine + 0.6 * step, abs=2e-4
    )  # and a little popularity
    assert scores[2] > scores[3]


def leave_one_out(path: Path) -> tuple[int, Histories]:
    """Users of a line each: ``user item item …``."""
    rows = [[int(item) for item in line.split()[1:]] for line in path.read_text().splitlines()]
    events = histories(rows)
    return int(events.item_nums.max()), events


def recall_and_ndcg(
    fitted: Recommender, events: Histories, targets: ItemNums
) -> tuple[float, float]:
    """At 10, over the full catalogue, what a user had removed."""
    hits, gains = 0.0, 0.0
    users = Users(events, np.arange(1, len(events) + 1))
    for start in range(0, len(events), 1024):
        some = users.slice(start, start + 1024)
        scores = fitted.scores(some)
        scores[some.histories.rows, some.histories.item_nums] = -np.inf
        wanted = targets[start : start + 1024]
        of_target = scores[np.arange(len(some)), wanted][:, None]
        before = np.arange(scores.shape[1]) < wanted[:, None]
        better = (scores > of_target) | ((scores == of_target) & before)
        rank = better[:, 1:].sum(axis=1)
        hits += (rank < 10).sum()
        gains += (1 / np.log2(rank[rank < 10] + 2)).sum()
    return hits / len(events), gains / len(events)


@pytest.mark.skipif(not BEAUTY.exists(), reason="needs ../shared/data/amazon_beauty/Beauty.txt")
@pytest.mark.parametrize(
    ("make", "recall", "ndcg"),
    [
        # as others measured it with a plain script
        pytest.param(ClassicItemItem, 0.0899, 0.0566, id="the classic"),
        pytest.param(ItemItem, 0.1073, 0.0671, id="item_item"),
        pytest.param(LinearItems, 0.1041, 0.0656, id="linear_items", marks=pytest.mark.slow),
        pytest.param(UserUser, 0.1026, 0.0647, id="user_user", marks=pytest.mark.slow),
    ],
)
def test_figures_on_amazon_beauty_are_what_is_claimed(
    make: Callable[[], Recommender], recall: float, ndcg: float
) -> None:
    num_items, events = leave_one_out(BEAUTY)
    before, targets = events.without_newest(), events.newest()

    found = recall_and_ndcg(make().fit(Shop(num_items, before)), before, targets)

    assert found == pytest.approx((recall, ndcg), abs=0.0005)
