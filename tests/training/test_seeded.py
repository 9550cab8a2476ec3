"""First weights of ranks that are threads of one process."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from recsys.training.seeded import seeded


def test_threads_that_draw_at_a_time_draw_the_same() -> None:
    with seeded(7):
        alone = [torch.randn(50) for _ in range(200)]
    drawn: dict[int, list[Tensor]] = {}
    start = threading.Barrier(4)

    def draw(rank: int) -> None:
        start.wait()
        with seeded(7):
            drawn[rank] = [torch.randn(50) for _ in range(200)]

    threads = [threading.Thread(target=draw, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(4):
        assert all(map(torch.equal, drawn[rank], alone)), rank


def test_it_leaves_no_trace() -> None:
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    with seeded(7):
        torch.randn(9)
    assert torch.equal(torch.randn(4), wanted)
