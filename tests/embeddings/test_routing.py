"""Messages are padded to few sizes, and have their pieces in order."""

from __future__ import annotations

import torch

from recsys.embeddings.routing import STEPS_KEPT, Padding, Parts, padded


def test_parts_grow_by_an_eighth() -> None:
    assert [padded(n) for n in (0, 64, 65, 72, 73)] == [64, 64, 72, 72, 81]
    for size in range(64, 5000, 7):
        assert size <= padded(size) <= size * 9 / 8 + 1


def test_a_part_shrinks_by_one_size_only_when_it_has_long_been_smaller() -> None:
    padding = Padding(3)
    assert padding.splits([[60, 9], [100], [1000]], me=2) == [72, 102, 0]
    for step in range(STEPS_KEPT):  # every second one is as large as what is kept
        sizes = [[1], [90], [1000]] if step % 2 else [[65], [100], [1000]]
        assert padding.splits(sizes, me=2) == [72, 102, 0]
    for _ in range(STEPS_KEPT - 2):
        assert padding.splits([[1], [90], [1000]], me=2) == [72, 102, 0]
    assert padding.splits([[1], [90], [1000]], me=2) == [64, 91, 0]


def test_a_part_shrinks_by_two_sizes_and_grows_by_any_at_once() -> None:
    padding = Padding(2)
    sizes = [padding.splits([[0], [size]], me=0)[1] for size in (100, 80, 70, 500, 60)]
    assert sizes == [102, 81, 81, padded(500), 64]


def test_a_message_has_its_pieces_in_order_and_zeros_behind_each_part_but_none_for_the_sender() -> (
    None
):
    parts = Parts([[2, 1], [0, 70], [5, 5]], [64, 72, 0], lambda size: torch.full((size,), 9.0))
    assert (parts.splits, len(parts.message)) == ([64, 72, 0], 136)
    for rank in (0, 1):
        for number, piece in enumerate(parts.pieces(rank)):
            piece.fill_(10 * rank + number)
    assert parts.message[:4].tolist() == [0, 0, 1, 0]
    assert parts.message[64:].tolist() == [11.0] * 70 + [0.0] * 2
