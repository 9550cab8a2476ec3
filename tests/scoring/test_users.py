from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys.scoring.users import Signals, batch_from_arrow
from tests.scoring.worlds import users_of

SIGNALS = Signals(("view", "purchase"), (0.3, 1.0), (False, True))


def test_padded_keeps_the_newest_known_items_and_their_gaps() -> None:
    users = users_of([[1, 2, 9, 3], [], [9], [4, 5, 6, 7]])  # the model knows 1 to 8

    nums, gaps = users.padded(3, num_known=8)

    assert nums.tolist() == [[1, 2, 3], [0, 0, 0], [0, 0, 0], [5, 6, 7]]
    # the gap of item 2 reaches over the unknown item 9, two days on; the newest reaches to as_of
    assert gaps.tolist() == [[1, 2, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]]


def test_arrow_columns_become_flat_arrays() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "user_id": ["ana", "bob", "cem"],
            "segment": ["France", None, "Atlantis"],  # Atlantis has no popularity: the whole shop
            "user_num": pa.array([7, None, 9], pa.int32()),  # bob is in no vocabulary
            "item_nums": pa.array([[1, 2], None, [3]], pa.list_(pa.int32())),
            "ages_days": pa.array([[2.5, 1.5], None, [0.5]], pa.list_(pa.float32())),
            "event_types": pa.array([["view", "purchase"], None, ["other"]], pa.list_(pa.string())),
            "seen_nums": pa.array([[2], [], None], pa.list_(pa.int32())),
            "hidden_nums": pa.array([None, [5, 6], []], pa.list_(pa.int32())),
        }
    )

    users = batch_from_arrow(batch, SIGNALS, ("", "Belgium", "France"))

    assert users.history_offsets.tolist() == [0, 2, 2, 3]
    assert users.history_nums.tolist() == [1, 2, 3]
    assert users.event_weights.tolist() == [
        0.3,
        1.0,
        1.0,
    ]  # a type that conf does not know weighs 1
    assert users.is_target.tolist() == [False, True, False]
    assert users.seen_offsets.tolist() == [0, 1, 1, 1]
    assert users.hidden_offsets.tolist() == [0, 0, 2, 2]
    assert users.hidden_nums.tolist() == [5, 6]
    assert users.segments.tolist() == [2, 0, 0]
    assert users.user_nums.tolist() == [7, 0, 9]
    assert users.has_history.tolist() == [True, False, True]


def test_take_is_the_users_at_those_places() -> None:
    users = users_of(
        [[1, 2], [3], [4, 5]], seen=[[1], [], [2, 3]], hidden=[[6], [7], []], segments=[0, 1, 2]
    )

    taken = users.take(np.array([2, 0]))
    part = users.slice(1, 3)

    assert taken.history_nums.tolist() == [4, 5, 1, 2]
    assert taken.seen_nums.tolist() == [2, 3, 1]
    assert (taken.hidden_offsets.tolist(), taken.hidden_nums.tolist()) == ([0, 0, 1], [6])
    assert (part.hidden_offsets.tolist(), part.hidden_nums.tolist()) == ([0, 1, 1], [7])
    assert taken.segments.tolist() == [2, 0]
    assert taken.user_nums.tolist() == [3, 1]
