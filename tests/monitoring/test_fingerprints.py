"""Order-free hashes by bucket: what makes two copies equal, and what does not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import Row

from recsys.monitoring.fingerprints import Fingerprint, bucket_of
from recsys.monitoring.fresh import under
from recsys.monitoring.lists import difference
from recsys.monitoring.matrix import row_hashes
from recsys.release.stored_list import Place, encode
from tests.scoring.worlds import kit_of

pairs = st.dictionaries(st.binary(max_size=4), st.binary(max_size=6), max_size=20)


def taken(content: dict[bytes, bytes], order: list[bytes] | None = None) -> Fingerprint:
    found = Fingerprint()
    found.add((key, content[key]) for key in (order or content))
    return found


@given(content=pairs, seed=st.randoms(use_true_random=False))
def test_order_and_batches_do_not_matter(content: dict[bytes, bytes], seed: object) -> None:
    whole, order = taken(content), list(content)
    seed.shuffle(order)  # type: ignore[attr-defined]
    parts = Fingerprint()
    for part in (order[:3], order[3:]):
        one = taken({key: content[key] for key in part})
        buckets = np.flatnonzero(one.rows_K)
        parts.add_sums(buckets, one.rows_K[buckets], one.sums_K[buckets])
    assert not whole.differing(taken(content, order)) and not whole.differing(parts)
    assert whole.rows == len(content)


@given(content=pairs, key=st.binary(max_size=4), value=st.binary(max_size=6))
def test_a_changed_a_missing_and_a_moved_value_are_seen_in_their_buckets(
    content: dict[bytes, bytes], key: bytes, value: bytes
) -> None:
    changed = content | {key: value}
    expected = {bucket_of(key)} if content.get(key) != value else set()
    assert taken(content).differing(taken(changed)) == expected


def test_two_values_that_changed_places_are_seen() -> None:
    one, other = {b"a": b"1", b"b": b"2"}, {b"a": b"2", b"b": b"1"}
    assert taken(one).differing(taken(other)) == {bucket_of(b"a"), bucket_of(b"b")}


@given(
    row=st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=9), place=st.integers(0, 8),
    bit=st.integers(0, 31),
)  # fmt: skip
def test_a_bit_of_a_vector_changes_its_hash(row: list[float], place: int, bit: int) -> None:
    rows = np.array([row, row], np.float32)
    words = rows.view(np.uint32)
    words[1, place % len(row)] ^= np.uint32(1 << bit)
    first, second = row_hashes(rows)
    assert first != second


def test_what_differs_between_two_lists_is_said() -> None:
    row = Row(item_ids=["tea", "cup"], scores=[2.0, 1.0], sources=["model", "similar"])

    def stored(*places: tuple[str, float, str]) -> bytes:
        return encode([Place(*place) for place in places])

    tea, cup = ("tea", 2.0, "model"), ("cup", 1.0, "similar")
    assert difference(row, stored(tea, cup)) == "the same items, but other stored bytes"
    assert difference(row, stored(tea, ("cup", 1.5, "similar"))) == (
        "rank 2 is 'cup' 1 similar, stored is 'cup' 1.5 similar"
    )
    assert difference(row, stored(tea)) == "2 items, stored are 1"
    assert difference(row, b"\x02\0\0\0junk") == "stored bytes that are no list"
    assert difference(row, None) == "in the table alone"
    assert difference(None, stored()) == "in the snapshot alone"


def test_the_masks_are_those_of_the_table_of_rules() -> None:
    kit = kit_of(4, buyers=[[4, 3, 2, 1], [1, 0, 0, 0]], hidden=[4])
    assert under(kit, {}).allowed.tolist() == [False, True, True, True, True]
    ruled = under(kit, {"": ("item-1", "gone"), "segment-1": ("item-2",), "new": ("item-3",)})
    assert ruled.segments == ("", "segment-1", "new")
    assert ruled.allowed.tolist() == [False, False, True, True, True]
    assert ruled.segment_allowed is not None
    assert [ruled.allowed_in(row).tolist() for row in (1, 2)] == [
        [False, False, False, True, True],
        [False, False, True, False, True],
    ]
    assert ruled.popularity(2).tolist() == kit.popularity(0).tolist(), "nobody of it has bought yet"
