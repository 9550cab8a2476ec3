"""The ranking task: what it asks for, what it knows at a place, and that every interaction learns what is planted."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.config.ranking import RankingConfig
from recsys.data import Batch, generator
from recsys.embeddings import Comm, LocalComm, ShardedEmbeddings
from recsys.evaluation.probabilities import auc
from recsys.models.ranking_fields import Attributes
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
    return Attributes(users, items, items, counts, (), (), np.zeros(0))


def batch_of(nums: NDArray[np.int64], ages: NDArray[np.float32], rows: torch.Tensor) -> Batch:
    """Every event but the first is a target; user numbers are the rows, from 1."""
    items = torch.from_numpy(nums)[rows]
    targets = items != 0
    targets[:, 0] = False
    return Batch(
        example_id_B=rows, user_num_B=rows + 1, item_nums_BW=items,
        ages_days_BW=torch.from_numpy(ages)[rows], targets_BW=targets,
    )  # fmt: skip


class World(NamedTuple):
    """Users of a group take items of their group: which item goes with which user is all there is to know."""

    history_UW: NDArray[np.int64]
    ages_UW: NDArray[np.float32]
    users: ValidationUsers
    attributes: Attributes


@pytest.fixture(scope="module")
def world() -> World:
    random = np.random.default_rng(1)
    group_U1 = random.integers(0, GROUPS, (NUM_USERS, 1))
    strays = random.random((NUM_USERS, LENGTH + 1)) < 0.1
    group = np.where(strays, random.integers(0, GROUPS, strays.shape), group_U1)
    nums = 1 + GROUPS * random.integers(0, NUM_ITEMS // GROUPS, group.shape) + group
    ages = np.broadcast_to(np.arange(LENGTH, 0, -1, dtype=np.float32), (NUM_USERS, LENGTH)).copy()
    history = nums[:, :-1].copy()
    users = ValidationUsers(
        torch.from_numpy(history), torch.from_numpy(ages), torch.arange(NUM_USERS),
        torch.from_numpy(nums[:, -1].copy()), torch.arange(1, NUM_USERS + 1),
    )  # fmt: skip
    return World(history, ages, users, plain_attributes(history, NUM_ITEMS))


def task_of(world: World, **changes: object) -> RankingTask:
    # Pairs share so few rows that no pair can be learned by heart.
    settings = {"embedding_dim": 8, "hidden": (16,), "cross_rows": 64, "field_dropout": 0.1}
    config = RankingConfig.model_validate(settings | changes)
    return RankingTask(
        config, world.attributes, as_of=AS_OF, quiet_days=0, seed=17, users=world.users
    )


def trained(task: RankingTask, world: World, epochs: int) -> ShardedEmbeddings:
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=17)
    adam = torch.optim.Adam(task.dense.parameters(), lr=1e-2)
    for epoch in range(epochs):
        draw = generator(17, epoch)
        torch.manual_seed(epoch)
        task.dense.train()
        for rows in torch.randperm(NUM_USERS, generator=draw).tensor_split(10):
            asked = task.ask(batch_of(world.history_UW, world.ages_UW, rows), draw)
            loss = task.loss(asked, embeddings.look_up(asked.ids))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            embeddings.update()
    task.dense.eval()
    return embeddings


# Three quarters of the negatives are of other groups, nine tenths of the targets are not: who knows the groups alone
# gets 0.82. That users of fifteen items take some again is a field by itself, and gets 0.68.
@pytest.mark.parametrize("interaction", ["dcn", "dlrm", "fm", "ncf"])
def test_what_no_single_field_tells_is_learned_by_every_interaction(
    world: World, interaction: str
) -> None:
    task = task_of(world, interaction=interaction)
    found = task.validate(trained(task, world, epochs=8), LocalComm())
    assert found is not None and found > 0.76


def test_the_linear_one_cannot_learn_it(world: World) -> None:
    task = task_of(world, interaction="linear")
    found = task.validate(trained(task, world, epochs=8), LocalComm())
    assert found is not None and found < 0.7


def test_probabilities_are_right_on_average(world: World) -> None:
    task = task_of(world, interaction="fm", field_dropout=0.0)
    embeddings = trained(task, world, epochs=3)
    answers = task.answers(embeddings, LocalComm())
    share = 1 / (1 + np.exp(-answers.logits_S.astype(np.float64)))
    assert share.mean() == pytest.approx(answers.taken_S.mean(), abs=0.05)


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
    task = RankingTask(config, plain_attributes(nums, 9), as_of=AS_OF, quiet_days=0, seed=1)
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
    task = RankingTask(config, plain_attributes(nums, 4), as_of=AS_OF, quiet_days=0.04, seed=1)
    asked = task.ask(batch_of(nums, ages, torch.arange(1)), generator(1))
    assert asked.context.query_of_P.tolist() == [0, 0]
    items, weights = asked.ids["item"], asked.context.weights_PM
    assert isinstance(items, torch.Tensor)
    for row in range(2):
        shown = items[row, 1:][weights[row, 1:] > 0]
        assert set(shown.tolist()) <= {1, 4} and len(shown)


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
