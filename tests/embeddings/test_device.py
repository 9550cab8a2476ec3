"""The tables on a GPU do what they do on the CPU."""

from __future__ import annotations

import pytest
import torch

from recsys.embeddings import (
    EmbeddingTable,
    LocalComm,
    RowwiseAdagrad,
    ShardedEmbeddings,
    device_of,
)
from recsys.embeddings.device import CPU
from recsys.embeddings.routing import Bags


def trained(device: torch.device) -> ShardedEmbeddings:
    rule = RowwiseAdagrad(0.1)
    tables = [
        EmbeddingTable("item", 500, 16, rule, padding=True),
        EmbeddingTable("history", 500, 16, rule, pooling="mean", padding=True),
    ]
    made = ShardedEmbeddings(tables, LocalComm(), seed=1, device=device)
    draw = torch.Generator().manual_seed(4)
    for _ in range(3):
        items = torch.randint(0, 500, (64, 3), generator=draw)
        history = Bags(torch.randint(0, 500, (900,), generator=draw), torch.arange(0, 900, 9))
        found = made.look_up({"item": items, "history": history})
        sum(vectors.square().sum() for vectors in found.values()).backward()  # type: ignore[union-attr]
        made.update()
    return made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_tables_of_the_cpu_and_the_same_bits_again() -> None:
    on_gpu, again, on_cpu = (trained(d) for d in (device_of(0), device_of(0), CPU))
    assert device_of(0).type == "cuda"
    for name, arrays in on_gpu.state().items():
        for array, found in arrays.items():
            assert found.is_cuda
            assert torch.equal(found, again.state()[name][array])
            torch.testing.assert_close(
                found.cpu(), on_cpu.state()[name][array].cpu(), rtol=1e-5, atol=1e-6
            )
    queries = on_cpu.table("item")[:5].to(device_of(0))
    ids, scores = on_gpu.best("item", queries, 3)
    assert ids.is_cuda
    assert scores.is_cuda


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
def test_without_a_gpu_everything_lies_on_the_cpu() -> None:
    assert device_of(3) == torch.device("cpu")
    assert all(
        rows.device == torch.device("cpu")
        for arrays in trained(device_of(0)).state().values()
        for rows in arrays.values()
    )
