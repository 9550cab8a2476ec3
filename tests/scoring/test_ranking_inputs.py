"""Stage 2 is fed what training was fed: the same rows of the same tables, gathered without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recsys.config.ranking import RankingConfig
from recsys.data import Batch, generator
from recsys.embeddings import LocalComm, ShardedEmbeddings
from recsys.features.training_examples import windows_of
from recsys.models.places import Predictions
from recsys.models.ranking_fields import FIELDS, Attributes, moments_of
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
        num_events_I=items * 5,
        is_cut_U=np.zeros(4, np.bool_),
        segments=("north", "south"),
        categories=("cups", "plates"),
    )


def test_a_logit_of_training_is_one_of_scoring() -> None:
    config = RankingConfig(embedding_dim=4, hidden=(8,), history_bag=2, cross_rows=CROSS_ROWS)
    known = replace(
        attributes(), num_events_I=np.zeros(10, np.int64)
    )  # but for the positive's own event
    task = RankingTask(config, known, as_of=AS_OF, max_length=6, quiet_days=0, seed=3)
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
    tables = {name: embeddings.state()[name]["weight"].numpy() for name in FIELDS}
    history, history_ages = newest_places(
        np.array([0, 2, 5]), np.array([2, 3, 5, 6, 7], np.int32),
        np.array([3.2, 2.1, 9.0, 8.0, 3.3], np.float32), task.events_known,
    )  # fmt: skip
    moments = moments_of(known, np.array([1, 3]), history, history_ages, AS_OF)
    items = asked.ids["item"]
    assert isinstance(items, torch.Tensor)
    fed = ranking_inputs(
        tables, known, moments, items.numpy(), history_bag=2, cross_rows=CROSS_ROWS
    )
    with torch.no_grad():
        found = task.tower(*(torch.from_numpy(array) for array in fed)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_training_knows_at_a_place_is_what_scoring_would_have_known_then() -> None:
    """Of a history of several windows, and of one that was cut before its first event."""
    max_length = 8
    nums = np.array([3, 4, 3, 5, 6, 3, 4, 4, 9, 1, 2, 3, 5, 3, 4, 6, 7, 8, 3, 3, 4, 9], np.int32)
    ages = (0.3 + np.arange(len(nums), 0, -1)).astype(np.float32)
    histories = pa.RecordBatch.from_pydict({
        "user_id": ["whole", "cut"], "user_num": pa.array([1, 2], pa.int32()), "as_of": [AS_OF] * 2,
        "first_example_id": pa.array([0, 100], pa.int64()),
        "item_nums": pa.array([nums.tolist()] * 2, pa.list_(pa.int32())),
        "event_types": [["purchase"] * len(nums)] * 2,
        "ages_days": pa.array([ages.tolist()] * 2, pa.list_(pa.float32())),
    })  # fmt: skip
    windows = windows_of(histories, max_length + 1, ["purchase"])
    blobs = {
        name: torch.from_numpy(np.stack([np.frombuffer(b.as_py(), kind) for b in windows.column(name)]))
        for name, kind in (("item_nums", "<i4"), ("ages_days", "<f4"), ("targets", "u1"))
    }  # fmt: skip
    user_nums = torch.from_numpy(windows.column("user_num").to_numpy().astype(np.int64))
    known = replace(attributes(), is_cut_U=np.array([False, False, True, False]))
    config = RankingConfig(embedding_dim=2, history_bag=2, cross_rows=CROSS_ROWS)
    task = RankingTask(config, known, as_of=AS_OF, max_length=max_length, quiet_days=0, seed=1)

    found = task._predictions(user_nums, *blobs.values())
    trained = task._moments(user_nums, blobs["item_nums"].long(), blobs["ages_days"], found)

    asked_at = len(nums) - np.rint(trained_ages(found, blobs["ages_days"]) - 0.3).astype(int)
    flat = [nums[: at + 1] for at in asked_at]
    history, history_ages = newest_places(
        np.cumsum([0, *map(len, flat)]), np.concatenate(flat),
        np.concatenate([ages[: at + 1] for at in asked_at]), task.events_known,
    )  # fmt: skip
    served = moments_of(known, trained.user_num_B, history, history_ages, AS_OF)
    for name in trained._fields:
        mine, theirs = getattr(trained, name), getattr(served, name)
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    # The second window may be asked from its fourth event on, the oldest from its first: but not where more was cut.
    whole, cut = (set(asked_at[trained.user_num_B == user].tolist()) for user in (1, 2))
    assert whole == {*range(5), *range(8, 13), *range(16, 21)}
    assert cut == whole - {0, 1, 2}


def trained_ages(found: Predictions, ages: torch.Tensor) -> NDArray[np.float32]:
    at_places: NDArray[np.float32] = ages[found.example_Q, found.place_Q].numpy()
    return at_places


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
    moments = moments_of(
        known, np.array([77]), np.array([[0, 12]]), np.array([[0, 0.5]], np.float32), AS_OF
    )
    fed = ranking_inputs(
        tables, known, moments, np.array([[11, 4]]), history_bag=2, cross_rows=CROSS_ROWS
    )
    # All but the clock: when the last event was is known, whatever its item.
    assert fed.user_vectors_BUD.any(axis=2).tolist() == [[False, False, False, True, True]]
    assert not fed.candidate_vectors_BMCD[0, 0].any()
    assert fed.candidate_vectors_BMCD[0, 1].any()
    assert fed.candidate_numbers_BM1[0, 0, 0] == 0


def test_gathering_runs_in_a_spark_worker_without_torch() -> None:
    program = "import sys, recsys.scoring.ranking_inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
