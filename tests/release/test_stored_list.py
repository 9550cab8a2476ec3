"""The bytes of a stored list, written one by one and a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ContractError, CorruptArtifact
from recsys.release import encoding
from recsys.release.encoding import encode_batches, encode_lists, keys_and_values
from recsys.release.stored_list import (
    MAX_KEY_BYTES,
    Bytes,
    Place,
    answer_hash,
    decode,
    encode,
    first,
    first_of_each,
    fragments,
    key_of,
    length,
)

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
lists = st.lists(st.builds(Place, texts, scores, st.sampled_from(["model", "similar"])), max_size=5)


def columns_of(rows: list[list[Place]]) -> list[pa.ListArray]:
    def column(values: list[list[object]], type_: pa.DataType) -> pa.ListArray:
        return pa.array(values, pa.list_(type_))

    return [
        column([[p.item_id for p in row] for row in rows], pa.string()),
        column([[p.score for p in row] for row in rows], pa.float32()),
        column([[p.source for p in row] for row in rows], pa.string()),
    ]


def batch(rows: list[list[Place]]) -> list[bytes]:
    return list(encode_lists(*columns_of(rows)).to_pylist())


def compiled_and_not(columns: list[pa.ListArray]) -> tuple[pa.BinaryArray, pa.BinaryArray]:
    """The same lists, encoded by encode.cpp and by Arrow."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = encode_lists(*columns)
        patch.setattr(encoding, "library", lambda: None)
        return compiled, encode_lists(*columns)


built = pytest.mark.skipif(encoding.library() is None, reason="encode.cpp is not built: make setup")


@given(rows=st.lists(lists, max_size=4))
def test_a_batch_holds_what_went_in(rows: list[list[Place]]) -> None:
    encoded = batch(rows)
    for value, row in zip(encoded, rows, strict=True):
        found = [(p.item_id, np.float32(p.score), p.source) for p in decode(value)]
        assert found == [(p.item_id, np.float32(p.score), p.source) for p in row]
    assert [answer_hash(decode(value)) for value in encoded] == [answer_hash(row) for row in rows]


odd_texts = texts | st.sampled_from(["", '"', "\\", "a\tb\x00\x1f\x7f", "王芳", "\u2028/"])
odd_scores = scores | st.sampled_from([0.0, -0.0, 1e-45, 1e-7, 1e-6, 1e10, 2.0**30, 0.1, -3.25])
odd_lists = st.lists(
    st.builds(Place, odd_texts, odd_scores.map(lambda x: float(np.float32(x))), odd_texts),
    max_size=5,
)


@built
@given(rows=st.lists(odd_lists, max_size=4), skip=st.integers(0, 2))
def test_compiled_lists_have_the_bytes_that_arrow_gives_them(
    rows: list[list[Place]], skip: int
) -> None:
    compiled, arrow = compiled_and_not([column.slice(skip) for column in columns_of(rows)])
    compiled.validate(full=True)
    assert compiled.to_pylist() == arrow.to_pylist()


@built
def test_compiled_scores_have_the_digits_that_arrow_gives_them() -> None:
    draw = np.random.default_rng(5)
    any_bits = draw.integers(0, 2**32, 40_000, dtype=np.uint32).view(np.float32)
    powers = np.float32(2.0) ** np.arange(-149, 128, dtype=np.float32)
    tens = np.float32(10.0) ** np.arange(-45, 39, dtype=np.float32)
    everyday = draw.normal(0, 10, 10_000).astype(np.float32).round(3)
    numbers = np.concatenate(
        [any_bits, powers, np.nextafter(powers, np.float32(0)), tens, everyday]
    )
    compiled, arrow = compiled_and_not(columns_with(numbers[np.isfinite(numbers)]))
    assert compiled.equals(arrow)


def columns_with(numbers: npt.NDArray[np.float32]) -> list[pa.ListArray]:
    """One list that has these scores."""
    ends = pa.array([0, len(numbers)], pa.int32())
    text = pa.array(["tea"] * len(numbers))
    return [pa.ListArray.from_arrays(ends, flat) for flat in (text, pa.array(numbers), text)]


def test_without_a_library_of_this_version_arrow_does_the_work(tmp_path: Path) -> None:
    assert encoding.library(tmp_path / "libencode.so") is None


@given(rows=st.lists(lists, max_size=4))
def test_a_chunk_is_read_back_as_it_was_encoded(rows: list[list[Place]]) -> None:
    keys = [b"%d" % n for n in range(len(rows))]
    names = ["key", "item_ids", "scores", "sources"]
    lists_ = pa.RecordBatch.from_arrays([pa.array(keys, pa.binary()), *columns_of(rows)], names)
    values = [value[::-1] for value in batch(rows)]
    facts = pa.RecordBatch.from_arrays(
        [pa.array(keys, pa.binary()), pa.array(values, pa.binary())], ["key", "value"]
    )
    for given_, wanted in ((lists_, batch(rows)), (facts, values)):
        [chunk] = encode_batches([given_])
        for stream in (chunk["chunk"][0].as_buffer(), bytearray(chunk["chunk"][0].as_py())):
            found_keys, found_values = keys_and_values(stream)
            assert (found_keys, list(map(bytes, found_values))) == (keys, wanted)


@given(rows=st.lists(lists | st.none(), max_size=4), n=st.integers(0, 7))
def test_the_first_n_of_many_are_those_of_each(rows: list[list[Place] | None], n: int) -> None:
    values = [None if row is None else encode(row) for row in rows]
    assert first_of_each(values, n) == [b"" if v is None else first(v, n) for v in values]


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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda value: b"", "unpack_from"),
        (lambda value: value[:3], "unpack_from"),
        (lambda value: b"\xff\xff\xff\xff" + value[4:], "unpack_from"),
        (lambda value: value[:-9], "JSONDecodeError"),
        (lambda value: value.replace(b"score", b"scare"), "KeyError"),
        (lambda value: value.replace(b"2.0", b'"x"'), "ValueError"),
        (lambda value: value[:8] + value[4:8] + value[12:], "holds 1 items and says 2"),
    ],
)
def test_damaged_bytes_are_a_corrupt_artifact_that_says_of_which_kind(
    damage: Callable[[bytes], bytes], message: str
) -> None:
    whole = encode([Place("tea", 2.0, "model"), Place("cup", 1.0, "model")])
    for value in (damage(whole), memoryview(damage(whole))):
        with pytest.raises(CorruptArtifact, match=f"a stored list of users is damaged .*{message}"):
            decode(value, "users")


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


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=built), False])
@pytest.mark.parametrize("broken", ["item_ids", "sources"])
def test_texts_that_are_no_utf8_are_refused(
    monkeypatch: pytest.MonkeyPatch, broken: str, compiled: bool
) -> None:
    ends = pa.array([0, 1], pa.int32())
    columns = dict(
        zip(("item_ids", "scores", "sources"), columns_with(np.ones(1, np.float32)), strict=True)
    )
    columns[broken] = pa.ListArray.from_arrays(ends, pa.array([b"te\xff"]).view(pa.string()))
    if not compiled:
        monkeypatch.setattr(encoding, "library", lambda: None)
    with pytest.raises(ContractError, match="no UTF-8"):
        encode_lists(**columns)


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
