"""Stage 2 is fed what training was fed: the same rows of the same tables, gathered without torch."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import numpy as np
import torch

from recsys.config.ranking import RankingConfig
from recsys.data import Batch, generator
from recsys.embeddings import LocalComm, ShardedEmbeddings
from recsys.models.ranking_fields import FIELDS, Attributes, Moments, moments_of
from recsys.scoring.ranking_inputs import newest_places, ranking_inputs
from recsys.training.ranking import RankingTask

AS_OF = date(2024, 6, 1)
CROSS_ROWS = 50


def attributes() -> Attributes:
    """Three users, nine items, two categories, two segments."""
    items = np.arange(10)
    return Attributes(
        segment_num_U=np.array([0, 1, 2, 1], np.int32),
        category_num_I=(items % 3).astype(np.int32),
        price_bucket_I=(items * 7 % 11).astype(np.int32),
        item_count_I=items * 5,
        segments=("north", "south"),
        categories=("cups", "plates"),
        price_edges=np.zeros(0),
    )


def test_a_logit_of_training_is_one_of_scoring() -> None:
    config = RankingConfig(embedding_dim=4, hidden=(8,), history_bag=2, cross_rows=CROSS_ROWS)
    known = attributes()
    task = RankingTask(config, known, as_of=AS_OF, quiet_days=0, seed=3)
    task.dense.eval()
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=3)
    nums = np.array([[0, 2, 3, 2], [5, 6, 7, 5]])  # what is taken was taken before
    ages = np.array([[0, 3.2, 2.1, 0.9], [9.0, 8.0, 3.3, 1.2]], dtype=np.float32)
    last = torch.tensor([[False, False, False, True]] * 2)
    batch = Batch(
        example_id_B=torch.arange(2), user_num_B=torch.tensor([1, 3]),
        item_nums_BW=torch.from_numpy(nums), ages_days_BW=torch.from_numpy(ages), targets_BW=last,
    )  # fmt: skip
    asked = task.ask(batch, generator(1))
    with torch.no_grad():
        vectors = embeddings.look_up(asked.ids, learn=False)
        wanted = task._logits(asked, vectors).numpy()
    tables = {name: embeddings.table(name).numpy() for name in FIELDS}
    history, history_ages = newest_places(
        np.array([0, 2, 5]), np.array([2, 3, 5, 6, 7], np.int32),
        np.array([3.2, 2.1, 9.0, 8.0, 3.3], np.float32), 4,
    )  # fmt: skip
    moments = moments_of(np.array([1, 3]), np.array([1, 1]), history, history_ages, AS_OF)
    items = asked.ids["item"]
    assert isinstance(items, torch.Tensor)
    fed = ranking_inputs(
        tables, known, moments, items.numpy(), history_bag=2, cross_rows=CROSS_ROWS
    )
    with torch.no_grad():
        found = task.tower(*(torch.from_numpy(array) for array in fed)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_histories_become_bags_of_their_newest_items() -> None:
    offsets, nums = np.array([0, 0, 2, 6]), np.array([4, 5, 1, 2, 3, 9], np.int32)
    ages = np.array([3.5, 1.5, 9, 8, 7, 6], dtype=np.float32)
    history, history_ages = newest_places(offsets, nums, ages, 3)
    assert history.tolist() == [[0, 0, 0], [0, 4, 5], [2, 3, 9]]
    assert history_ages.tolist() == [[0, 0, 0], [0, 3.5, 1.5], [8, 7, 6]]
    none, no_ages = newest_places(np.array([0, 0]), nums[:0], ages[:0], 2)
    assert (none.tolist(), no_ages.tolist()) == ([[0, 0]], [[0, 0]])


def test_a_stranger_and_a_new_item_are_rows_of_zeros() -> None:
    known = attributes()
    tables = {
        name: np.vstack([np.zeros((1, 2)), np.ones((rows - 1, 2))]).astype(np.float32)
        for name, rows in known.table_rows(CROSS_ROWS).items()
    }
    zero = np.array([0])
    days = np.zeros((1, 2), np.float32)
    moments = Moments(np.array([77]), zero, np.array([[0, 12]]), days, zero, zero)
    fed = ranking_inputs(
        tables, known, moments, np.array([[11, 4]]), history_bag=2, cross_rows=CROSS_ROWS
    )
    assert not fed.user_vectors_BUD.any()
    assert not fed.candidate_vectors_BMCD[0, 0].any()
    assert fed.candidate_vectors_BMCD[0, 1].any()
    assert fed.candidate_numbers_BM1[0, 0, 0] == 0


def test_gathering_runs_in_a_spark_worker_without_torch() -> None:
    program = "import sys, recsys.scoring.ranking_inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
