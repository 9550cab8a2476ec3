"""What a snapshot gives is what was there when it was made, whatever training does meanwhile."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recsys.embeddings import (
    EmbeddingTable,
    FrozenRows,
    LazyAdam,
    LocalComm,
    RowwiseAdagrad,
    ShardedEmbeddings,
)
from recsys.embeddings.snapshot import Snapshot
from recsys.errors import ContractError

ROWS = {"item": 40, "brand": 7, "weekday": 3}


def collection() -> ShardedEmbeddings:
    adagrad, adam = RowwiseAdagrad(0.1), LazyAdam(0.1)
    tables = [
        EmbeddingTable("item", ROWS["item"], 4, adagrad, padding=True),
        EmbeddingTable("brand", ROWS["brand"], 4, adagrad),
        EmbeddingTable("weekday", ROWS["weekday"], 2, adam),
    ]
    return ShardedEmbeddings(tables, LocalComm(), seed=1)


def train(embeddings: ShardedEmbeddings, ids: dict[str, list[int]]) -> None:
    vectors = embeddings.look_up(
        {name: torch.tensor(of, dtype=torch.int64) for name, of in ids.items()}
    )
    sum(v.square().sum() + v.sum() for v in vectors.values()).backward()  # type: ignore[union-attr]
    embeddings.update()


def read(rows: FrozenRows, start: int = 0, stop: int | None = None) -> Tensor:
    stop = rows.shape[0] if stop is None else stop
    out = torch.full((stop - start, *rows.shape[1:]), float("nan"), dtype=rows.dtype)
    rows.read(start, stop, out)
    return out


Batches = st.lists(
    st.fixed_dictionaries(
        {name: st.lists(st.integers(0, rows - 1), max_size=6) for name, rows in ROWS.items()}
    ),
    max_size=5,
)


@given(before=Batches, after=Batches, cut=st.integers(0, 39))
def test_rows_are_those_of_the_moment_however_they_are_read(
    before: list[dict[str, list[int]]], after: list[dict[str, list[int]]], cut: int
) -> None:
    embeddings = collection()
    for batch in before:
        train(embeddings, batch)
    expected = {t: {a: v.clone() for a, v in of.items()} for t, of in embeddings.state().items()}
    frozen = embeddings.freeze()
    assert {t: set(of) for t, of in frozen.items()} == {t: set(of) for t, of in expected.items()}
    for batch in after:
        train(embeddings, batch)
    for table, arrays in expected.items():
        for array, wanted in arrays.items():
            assert torch.equal(read(frozen[table][array]), wanted)
    item = expected["item"]["weight"]
    assert torch.equal(read(frozen["item"]["weight"], 0, cut), item[:cut])
    assert torch.equal(read(frozen["item"]["weight"], cut), item[cut:])
    train(embeddings, {"item": [1, 2]})
    assert not torch.equal(embeddings.state()["item"]["weight"], item), "training went on"


def test_a_row_that_several_ranks_changed_is_kept_once() -> None:
    weight = torch.arange(6.0).view(3, 2)
    snapshot = Snapshot({"weight": weight})
    with snapshot.changing([torch.tensor([0, 2]), torch.tensor([2])]):
        weight[:] = -1
    with snapshot.changing([torch.tensor([2, 1])]):
        weight[:] = -2
    out = torch.empty(3, 2)
    snapshot.read("weight", 0, 3, out)
    assert out.tolist() == [[0, 1], [-1, -1], [4, 5]]  # row 1 was kept when it was said to change
    assert [rows.tolist() for rows, _ in snapshot._kept] == [[0, 2], [1]]


class WatchedLock:
    """Says when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock, self.somebody_waits = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.somebody_waits.set()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_a_block_is_not_read_while_rows_change() -> None:
    weight = torch.zeros(4, 2)
    snapshot, lock = Snapshot({"weight": weight}), WatchedLock()
    snapshot._lock = lock  # type: ignore[assignment]
    out = torch.full((4, 2), -1.0)
    thread = threading.Thread(target=lambda: snapshot.read("weight", 0, 4, out))
    with snapshot.changing([torch.tensor([3])]):
        thread.start()
        assert lock.somebody_waits.wait(10), "the reader waits for the change to end"
        weight[3] = 7
        assert out.eq(-1).all()
    thread.join(10)
    assert not out.any(), "and gets what was there before it"


def test_after_the_end_nothing_is_kept_and_nothing_can_be_read() -> None:
    embeddings = collection()
    frozen = embeddings.freeze()["item"]["weight"]
    train(embeddings, {"item": [1, 2, 3]})
    [shard, *_] = embeddings.shards
    snapshot = shard._snapshot
    assert snapshot is not None
    assert len(snapshot._kept) == 1
    embeddings.thaw()
    train(embeddings, {"item": [4]})
    assert snapshot._kept == []
    with pytest.raises(ContractError, match="rows 0 to 40 of 'weight' were read after thaw"):
        read(frozen)


def test_a_second_freeze_ends_the_first() -> None:
    embeddings = collection()
    first, second = (embeddings.freeze()["item"]["weight"] for _ in range(2))
    with pytest.raises(ContractError, match="after thaw"):
        read(first)
    assert torch.equal(read(second), embeddings.state()["item"]["weight"])
