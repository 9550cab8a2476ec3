"""Blocks are used again, and never by two at once."""

from __future__ import annotations

import mmap

from recsys.embeddings.buffers import Buffers


def test_a_block_is_used_again_when_nothing_lies_on_it_any_more() -> None:
    buffers = Buffers()
    first, second = buffers.split([(3, 4), (2,)])
    address = first.data_ptr()
    del first
    other = buffers.empty(14)
    assert other.data_ptr() != address, "the second tensor is still there"
    del second
    assert buffers.empty(14).data_ptr() == address


def test_a_block_that_another_takes_meanwhile_is_not_taken_twice() -> None:
    """A finalizer that runs between two lines of the pool may change it."""

    class Changing(list[mmap.mmap]):
        def remove(self, block: mmap.mmap) -> None:
            super().remove(block)
            if len(self) == 1:  # the first time: somebody was faster
                raise ValueError

    buffers = Buffers()
    blocks = [mmap.mmap(-1, size) for size in (4096, 4200)]
    buffers._free = Changing(blocks)
    assert buffers._take(4000) is blocks[1]
    assert buffers._take(4000) is None
