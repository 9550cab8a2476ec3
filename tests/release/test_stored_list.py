"""The bytes of a stored list, written one by one and a batch at a time."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ContractError
from recsys.release.encoding import encode_lists
from recsys.release.stored_list import (
    MAX_KEY_BYTES,
    Bytes,
    Place,
    answer_hash,
    decode,
    encode,
    first,
    fragments,
    key_of,
    length,
)

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
lists = st.lists(st.builds(Place, texts, scores, st.sampled_from(["model", "similar"])), max_size=5)


def batch(rows: list[list[Place]]) -> list[bytes]:
    def column(values: list[list[object]], type_: pa.DataType) -> pa.Array:
        return pa.array(values, pa.list_(type_))

    encoded = encode_lists(
        column([[p.item_id for p in row] for row in rows], pa.string()),
        column([[p.score for p in row] for row in rows], pa.float32()),
        column([[p.source for p in row] for row in rows], pa.string()),
    )
    return list(encoded.to_pylist())


@given(rows=st.lists(lists, max_size=4))
def test_a_batch_holds_what_went_in(rows: list[list[Place]]) -> None:
    encoded = batch(rows)
    for value, row in zip(encoded, rows, strict=True):
        found = [(p.item_id, np.float32(p.score), p.source) for p in decode(value)]
        assert found == [(p.item_id, np.float32(p.score), p.source) for p in row]
    assert [answer_hash(decode(value)) for value in encoded] == [answer_hash(row) for row in rows]


@given(row=lists, n=st.integers(0, 7))
def test_the_first_n_are_json_of_the_first_n(row: list[Place], n: int) -> None:
    for value in (encode(row), *batch([row])):
        items = json.loads(b"[" + first(value, n) + b"]")
        assert [item["item_id"] for item in items] == [p.item_id for p in row[:n]]
        assert length(value) == len(row)


@given(row=lists)
def test_the_parts_of_a_list_are_its_items_in_order(row: list[Place]) -> None:
    values: list[Bytes] = [encode(row), memoryview(encode(row)), *batch([row])]
    for value in values:
        items = [json.loads(bytes(part)) for part in fragments(value)]
        assert [item["item_id"] for item in items] == [p.item_id for p in row]
        assert b",".join(fragments(value)) == first(value, len(row))


def test_scores_keep_their_float32_value() -> None:
    score = float(np.float32(0.1))
    [value] = batch([[Place("tea", score, "model")]])
    assert np.float32(decode(value)[0].score) == np.float32(score)


@pytest.mark.parametrize(
    ("item_ids", "scores", "message"),
    [
        ([["tea", None]], [[1.0, 2.0]], "an item or a source is null"),
        ([["tea"]], [[float("nan")]], "not a number"),
        ([["tea"]], [[float("inf")]], "infinite"),
        ([["tea"]], [[1.0, 2.0]], "differ in length"),
    ],
)
def test_lists_that_cannot_be_served_are_refused(
    item_ids: list[list[str]], scores: list[list[float]], message: str
) -> None:
    sources = [["model"] * len(row) for row in item_ids]
    with pytest.raises(ContractError, match=message):
        encode_lists(
            pa.array(item_ids, pa.list_(pa.string())),
            pa.array(scores, pa.list_(pa.float32())),
            pa.array(sources, pa.list_(pa.string())),
        )


@given(a=texts, b=texts)
def test_different_ids_have_different_keys(a: str, b: str) -> None:
    assert (key_of(a) == key_of(b)) == (a == b)


@pytest.mark.parametrize("id_", ["", "x" * MAX_KEY_BYTES, "x" * (MAX_KEY_BYTES + 1), "中" * 400])
def test_every_id_fits_an_lmdb_key(id_: str) -> None:
    assert 1 <= len(key_of(id_)) <= 511


def test_the_answer_hash_sees_every_part_and_the_order() -> None:
    base = [Place("tea", 2.0, "model"), Place("cup", 1.0, "model")]
    others = [
        base[::-1],
        base[:1],
        [Place("tea", 2.5, "model"), base[1]],
        [Place("tea", 2.0, "similar"), base[1]],
        [Place("tee", 2.0, "model"), base[1]],
    ]
    assert answer_hash(base) not in {answer_hash(other) for other in others}
