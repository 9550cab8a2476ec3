"""The ranking task: what it asks for, what it knows at a place, and that every interaction learns what is planted."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from recsys.config.ranking import RankingConfig
from recsys.config.sections import GenerateShopConfig
from recsys.data import Batch, generator
from recsys.embeddings import Comm, LocalComm, ShardedEmbeddings
from recsys.evaluation.probabilities import auc, calibration_error, log_loss
from recsys.models.calibration import calibrated, sigmoid
from recsys.models.ranking_fields import PRICE_BUCKETS, Attributes, price_buckets
from recsys.shop_generator.days import VIEW, build_day, join, no_events
from recsys.shop_generator.world import SEGMENTS, build_world
from recsys.shop_generator.world import World as ShopWorld
from recsys.training.ranking import RankingTask, bags
from recsys.training.validation import ValidationUsers
from tests.embeddings.rank_threads import run_ranks

AS_OF = date(2024, 6, 1)
GROUPS, NUM_ITEMS, NUM_USERS, LENGTH = 4, 60, 150, 12


def plain_attributes(nums: NDArray[np.int64], num_items: int) -> Attributes:
    """Users without segments, items without categories and prices."""
    users, items = np.zeros(len(nums) + 1, np.int32), np.zeros(num_items + 1, np.int32)
    counts = np.bincount(nums.ravel(), minlength=num_items + 1)
    counts[0] = 0
    return Attributes(users, items, items, counts, users > 0, (), ())


def batch_of(nums: NDArray[np.int64], ages: NDArray[np.float32], rows: torch.Tensor) -> Batch:
    """Whole histories: a place is empty before the first event. Every other event is a target.

    User numbers are the rows, from 1.
    """
    items, days = (
        nn.functional.pad(torch.from_numpy(values)[rows], (1, 0)) for values in (nums, ages)
    )
    return Batch(
        example_id_B=rows, user_num_B=rows + 1, item_nums_BW=items, ages_days_BW=days,
        targets_BW=items != 0,
    )  # fmt: skip


class World(NamedTuple):
    """Histories, and what their users take next."""

    history_UW: NDArray[np.int64]
    ages_UW: NDArray[np.float32]
    users: ValidationUsers
    attributes: Attributes


def grouped_world(num_users: int = NUM_USERS) -> World:
    """Users of a group take items of their group: which item goes with which user is all there is to know."""
    random = np.random.default_rng(1)
    group_U1 = random.integers(0, GROUPS, (num_users, 1))
    strays = random.random((num_users, LENGTH + 1)) < 0.1
    group = np.where(strays, random.integers(0, GROUPS, strays.shape), group_U1)
    nums = 1 + GROUPS * random.integers(0, NUM_ITEMS // GROUPS, group.shape) + group
    ages = np.broadcast_to(np.arange(LENGTH, 0, -1, dtype=np.float32), (num_users, LENGTH)).copy()
    history = nums[:, :-1].copy()
    users = ValidationUsers(
        torch.from_numpy(history), torch.from_numpy(ages), torch.arange(num_users),
        torch.from_numpy(nums[:, -1].copy()), torch.arange(1, num_users + 1),
    )  # fmt: skip
    return World(history, ages, users, plain_attributes(history, NUM_ITEMS))


def generated_world() -> World:
    """Views of the generated shop: most are of the user's two groups, and every seventh visit begins with a favourite.

    A user's last view is what is asked about; user and item numbers are those of the shop, from 1.
    """
    config = GenerateShopConfig(users=300, items=120, item_groups=10, events=12_000, days=40)
    shop, num_days = build_world(config), config.days
    days = [
        (number, build_day(config, shop, number, no_events(), config.first_day).events)
        for number in range(num_days)
        if shop.events_per_day[number]
    ]
    seconds = np.concatenate([86_400 * number + events.second for number, events in days])
    views = join([events for _, events in days])
    kept = np.flatnonzero(views.type == VIEW)
    kept = kept[np.lexsort((seconds[kept], views.user[kept]))]
    history = np.zeros((config.users, LENGTH + 1), np.int64)
    ages = np.zeros((config.users, LENGTH + 1), np.float32)
    for user in range(config.users):
        mine = kept[views.user[kept] == user][-LENGTH - 1 :]
        history[user, LENGTH + 1 - len(mine) :] = 1 + views.item[mine]
        ages[user, LENGTH + 1 - len(mine) :] = num_days - seconds[mine] / 86_400
    asked = np.flatnonzero(history[:, -2])
    users = ValidationUsers(
        torch.from_numpy(history[asked, :-1].copy()), torch.from_numpy(ages[asked, :-1].copy()),
        torch.arange(len(asked)), torch.from_numpy(history[asked, -1].copy()),
        torch.from_numpy(asked + 1),
    )  # fmt: skip
    return World(
        history[:, :-1].copy(), ages[:, :-1].copy(), users, known_of(shop, history[:, :-1])
    )


def known_of(shop: ShopWorld, history_UW: NDArray[np.int64]) -> Attributes:
    """Segments, groups and prices as the shop has them."""
    prices = np.concatenate([[np.nan], shop.price_pence / 100])
    edges = np.quantile(prices[1:], np.arange(1, PRICE_BUCKETS) / PRICE_BUCKETS)
    counts = np.bincount(history_UW.ravel(), minlength=len(prices))
    counts[0] = 0
    return Attributes(
        segment_num_U=np.concatenate([[0], 1 + shop.segment_of_user]).astype(np.int32),
        category_num_I=np.concatenate([[0], 1 + shop.group_of_item]).astype(np.int32),
        price_bucket_I=price_buckets(edges, prices),
        num_events_I=counts,
        is_cut_U=np.zeros(len(history_UW) + 1, np.bool_),
        segments=SEGMENTS,
        categories=tuple(f"group {number}" for number in range(int(shop.group_of_item.max()) + 1)),
    )


@pytest.fixture(scope="module")
def world() -> World:
    return grouped_world()


@pytest.fixture(scope="module")
def generated() -> World:
    return generated_world()


def task_of(world: World, **changes: object) -> RankingTask:
    # Pairs share so few rows that no pair can be learned by heart.
    settings = {"embedding_dim": 8, "hidden": (16,), "cross_rows": 64, "field_dropout": 0.1}
    config = RankingConfig.model_validate(settings | changes)
    return RankingTask(
        config,
        world.attributes,
        as_of=AS_OF,
        max_length=LENGTH,
        quiet_days=0,
        seed=17,
        users=world.users,
    )


def trained(task: RankingTask, world: World, epochs: int) -> ShardedEmbeddings:
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=17)
    adam = torch.optim.Adam(task.dense.parameters(), lr=1e-2)
    for epoch in range(epochs):
        draw = generator(17, epoch)
        torch.manual_seed(epoch)
        task.dense.train()
        for rows in torch.randperm(len(world.history_UW), generator=draw).tensor_split(10):
            asked = task.ask(batch_of(world.history_UW, world.ages_UW, rows), draw)
            loss = task.loss(asked, embeddings.look_up(asked.ids))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            embeddings.update()
    task.dense.eval()
    return embeddings


# Three quarters of the negatives are of other groups, nine tenths of the targets are not: who knows the groups of the
# small world alone gets 0.82. That users of fifteen items take some again is a field by itself, and gets 0.68.
@pytest.mark.parametrize("interaction", ["dcn", "dlrm", "fm", "ncf"])
def test_what_no_single_field_tells_is_learned_by_every_interaction(
    world: World, interaction: str
) -> None:
    task = task_of(world, interaction=interaction)
    found = task.validate(trained(task, world, epochs=8), LocalComm())
    assert found is not None and found > 0.76


@pytest.mark.parametrize("interaction", ["dcn", "dlrm", "fm", "ncf"])
def test_every_interaction_learns_who_likes_what_in_the_generated_shop(
    generated: World, interaction: str
) -> None:
    task = task_of(generated, interaction=interaction)
    found = task.validate(trained(task, generated, epochs=8), LocalComm())
    answers = task.answers(trained(task, generated, epochs=0), LocalComm())
    counts = generated.attributes.num_events_I[answers.item_nums_S].astype(np.float64)
    popular = auc(answers.taken_S, counts)
    assert found is not None and found > popular + 0.13  # 0.80 to 0.82 against 0.61


def test_the_linear_one_cannot_learn_it(world: World) -> None:
    task = task_of(world, interaction="linear")
    found = task.validate(trained(task, world, epochs=8), LocalComm())
    assert found is not None and found < 0.7


def test_probabilities_hold_for_users_on_whom_nothing_was_fitted() -> None:
    many = grouped_world(1500)
    task = task_of(many, interaction="dcn", field_dropout=0.0)
    answers = task.answers(trained(task, many, epochs=6), LocalComm())
    untrained = task_of(many, interaction="dcn", field_dropout=0.0)
    untrained.dense.eval()
    tables = ShardedEmbeddings(untrained.tables, LocalComm(), seed=17)
    before = untrained.answers(tables, LocalComm())
    learns = answers.user_S % 2 == 0
    logits, taken = answers.logits_S.astype(np.float64), answers.taken_S
    of_others = calibrated(logits[learns], taken[learns]).probabilities(logits[~learns])
    assert calibration_error(taken[~learns], of_others, bins=6) < 0.03
    knows_nothing = sigmoid(before.logits_S.astype(np.float64))
    assert log_loss(taken[~learns], of_others) < log_loss(before.taken_S, knows_nothing) - 0.05


def test_validation_is_the_auc_of_the_answers_and_the_same_every_time(world: World) -> None:
    task = task_of(world, interaction="fm")
    embeddings = trained(task, world, epochs=1)
    answers, again = (task.answers(embeddings, LocalComm()) for _ in range(2))
    np.testing.assert_array_equal(answers.logits_S, again.logits_S)
    np.testing.assert_array_equal(answers.item_nums_S, again.item_nums_S)
    exact = auc(answers.taken_S, answers.logits_S.astype(np.float64))
    assert task.validate(embeddings, LocalComm()) == pytest.approx(exact, abs=1e-3)
    assert answers.taken_S.sum() == NUM_USERS
    assert len(answers.taken_S) > 4 * NUM_USERS  # almost all negatives are ones
    assert task_of(world._replace(users=None)).validate(embeddings, LocalComm()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_users_and_agree_on_the_figure(world: World, size: int) -> None:
    task = task_of(world)

    def of_rank(comm: Comm) -> tuple[float | None, list[int]]:
        embeddings = ShardedEmbeddings(task.tables, comm, seed=1)
        found = task.validate(embeddings, comm)
        return found, task.answers(embeddings, comm).user_S.tolist()

    task.dense.eval()
    found = run_ranks(size, of_rank)
    alone = ShardedEmbeddings(task.tables, LocalComm(), seed=1)
    wanted = task.validate(alone, LocalComm())
    assert [figure for figure, _ in found] == [pytest.approx(wanted, abs=1e-6)] * size
    shares = [set(users) for _, users in found]
    assert set.union(*shares) == set(range(NUM_USERS))
    assert sum(map(len, shares)) == NUM_USERS


def test_a_target_that_is_not_in_the_vocabulary_is_left_out(world: World) -> None:
    targets = world.users.target_item_nums_T.clone()
    targets[:100] = 0
    users = ValidationUsers(**{**world.users._asdict(), "target_item_nums_T": targets})
    task = task_of(world._replace(users=users))
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=1)
    answers = task.answers(embeddings, LocalComm())
    assert answers.taken_S.sum() == NUM_USERS - 100
    assert set(answers.user_S.tolist()) == set(range(100, NUM_USERS))


def test_a_place_knows_its_own_event_and_those_before_it() -> None:
    nums = np.array([[0, 0, 3, 4, 5], [6, 7, 8, 9, 1]])
    # Friday 18:00, then noon of Friday a week before, …: the age says when
    ages = np.array([[0, 0, 8.5, 7.5, 0.25], [4.0, 3.5, 2.5, 1.5, 1.25]], dtype=np.float32)
    config = RankingConfig(embedding_dim=2, history_bag=2, cross_rows=1000)
    task = RankingTask(
        config, plain_attributes(nums, 9), as_of=AS_OF, max_length=10, quiet_days=0, seed=1
    )
    asked = task.ask(batch_of(nums, ages, torch.arange(2)), generator(1))
    # Places that predict: 3 and 4 of the first user; 6, 7, 8, 9 of the second.
    assert asked.ids["user"].tolist() == [1, 1, 2, 2, 2, 2]  # type: ignore[union-attr]
    bag = asked.ids["history"]
    assert bag.ids_P.tolist() == [3, 3, 4, 6, 6, 7, 7, 8, 8, 9]  # type: ignore[union-attr]
    assert bag.starts_B.tolist() == [0, 1, 3, 4, 6, 8]  # type: ignore[union-attr]
    assert asked.ids["hour"].tolist() == [13, 13, 1, 13, 13, 13]  # type: ignore[union-attr]
    assert asked.ids["weekday"].tolist() == [4, 5, 2, 2, 3, 4]  # type: ignore[union-attr]
    items = asked.ids["item"]
    assert isinstance(items, torch.Tensor) and items.shape == (6, 5)
    assert items[:, 0].tolist() == [4, 5, 7, 8, 9, 1]
    pairs = asked.ids["last_item_item"]
    assert isinstance(pairs, torch.Tensor)
    assert pairs[:, 0].tolist() == [
        (last - 1) * 9 + item for last, item in [(3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (9, 1)]
    ]


def test_lines_of_one_invoice_share_a_place_and_are_no_negatives_of_each_other() -> None:
    nums, ages = np.array([[1, 2, 3]]), np.array([[5.0, 1.0, 1.0]], dtype=np.float32)
    config = RankingConfig(embedding_dim=2, num_negatives=60)
    task = RankingTask(
        config, plain_attributes(nums, 4), as_of=AS_OF, max_length=4, quiet_days=0.04, seed=1
    )
    asked = task.ask(batch_of(nums, ages, torch.arange(1)), generator(1))
    assert asked.context.query_of_P.tolist() == [0, 0]
    items, weights = asked.ids["item"], asked.context.weights_PM
    assert isinstance(items, torch.Tensor)
    for row in range(2):
        shown = items[row, 1:][weights[row, 1:] > 0]
        assert set(shown.tolist()) <= {1, 4} and len(shown)


def test_a_positive_s_own_event_is_not_counted_for_it_in_training_and_is_in_validation(
    world: World,
) -> None:
    nums, ages = np.array([[1, 2, 3, 2]]), np.array([[4.0, 3.0, 2.0, 1.0]], dtype=np.float32)
    users = ValidationUsers(
        torch.from_numpy(nums), torch.from_numpy(ages), torch.arange(1), torch.tensor([3]),
        torch.ones(1, dtype=torch.int64),
    )  # fmt: skip
    task = RankingTask(
        RankingConfig(embedding_dim=2), plain_attributes(nums, 4), as_of=AS_OF, max_length=4,
        quiet_days=0, seed=1, users=users,
    )  # fmt: skip
    asked = task.ask(batch_of(nums, ages, torch.arange(1)), generator(1))
    counts = asked.context.numbers_PM1.expm1().squeeze(2).round()
    assert counts[:, 0].tolist() == [
        1,
        0,
        1,
    ]  # of 2, of 3, which has a single event, and of 2 again
    items = asked.ids["item"]
    assert isinstance(items, torch.Tensor)
    assert counts[:, 1:].tolist() == task.attributes.num_events_I[items[:, 1:].numpy()].tolist()
    with (
        patch.object(RankingTask, "_logits", side_effect=Stopped) as logits,
        pytest.raises(Stopped),
    ):
        task.answers(ShardedEmbeddings(task.tables, LocalComm(), seed=1), LocalComm())
    shown = logits.call_args.args[0].context.numbers_PM1.expm1()
    assert shown[0, 0].item() == pytest.approx(1)


class Stopped(Exception):
    pass


def test_an_empty_batch_asks_and_loses_nothing(world: World) -> None:
    task = task_of(world)
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=1)
    empty = batch_of(world.history_UW, world.ages_UW, torch.arange(0))
    asked = task.ask(empty, generator(1))
    loss = task.loss(asked, embeddings.look_up(asked.ids))
    loss.backward()  # type: ignore[no-untyped-call]
    embeddings.update()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None for p in task.dense.parameters())


def test_bags_hold_what_is_not_padding() -> None:
    found = bags(torch.tensor([[0, 3, 4], [0, 0, 0], [0, 0, 5]]))
    assert (found.ids_P.tolist(), found.starts_B.tolist()) == ([3, 4, 5], [0, 2, 2])
