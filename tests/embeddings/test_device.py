"""The tables on a GPU do what they do on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from recsys.embeddings import (
    Bags,
    EmbeddingTable,
    LazyAdam,
    LocalComm,
    Plan,
    RowwiseAdagrad,
    Sgd,
    ShardedEmbeddings,
    device_of,
)
from recsys.embeddings.device import CPU
from recsys.embeddings.plan import Placement
from recsys.embeddings.tables import RowRule

RULES: tuple[RowRule, ...] = (Sgd(0.1), RowwiseAdagrad(0.1), LazyAdam(0.05))
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """As training processes are set."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class TwoRanksInOne(LocalComm):
    """Rank 0 of two, where the other brings nothing to a sum: enough to have a table replicated."""

    size = 2

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        return message, list(splits)


def collection(device: torch.device, rule: RowRule) -> ShardedEmbeddings:
    tables = [
        EmbeddingTable("item", 500, 16, rule, padding=True),
        EmbeddingTable("history", 500, 16, rule, pooling="mean", padding=True),
    ]
    return ShardedEmbeddings(tables, LocalComm(), seed=1, device=device)


def replicated(device: torch.device, rule: RowRule) -> ShardedEmbeddings:
    table = EmbeddingTable("item", 500, 16, rule, padding=True)
    plan = Plan(2, (Placement(table, "replicated"),))
    return ShardedEmbeddings([table], TwoRanksInOne(), seed=1, plan=plan, device=device)


def go_on(made: ShardedEmbeddings) -> None:
    draw = torch.Generator().manual_seed(4)
    for _ in range(3):
        items = torch.randint(0, 500, (64, 3), generator=draw)
        history = Bags(torch.randint(0, 500, (900,), generator=draw), torch.arange(0, 900, 9))
        ids: dict[str, Tensor | Bags] = {"item": items, "history": history}
        found = made.look_up({name: ids[name] for name in made.tables})
        sum(vectors.square().sum() for vectors in found.values()).backward()  # type: ignore[union-attr]
        made.update()


def trained(made: ShardedEmbeddings) -> ShardedEmbeddings:
    go_on(made)
    return made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_rule
@pytest.mark.parametrize("make", [collection, replicated])
def test_a_gpu_gives_the_tables_of_the_cpu_and_the_same_bits_again(
    make: Callable[[torch.device, RowRule], ShardedEmbeddings], rule: RowRule, deterministic: None
) -> None:
    gpu = device_of(0)
    assert gpu.type == "cuda"
    on_gpu, again, on_cpu = (trained(make(device, rule)) for device in (gpu, gpu, CPU))
    for name, arrays in on_gpu.state().items():
        for array, found in arrays.items():
            assert found.is_cuda
            assert torch.equal(found, again.state()[name][array])
            torch.testing.assert_close(
                found.cpu(), on_cpu.state()[name][array], rtol=1e-5, atol=1e-6
            )
    queries = on_cpu.state()["item"]["weight"][:5].to(gpu)
    ids, scores = on_gpu.best("item", queries, 3)
    assert ids.is_cuda
    assert scores.is_cuda


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_rule
def test_frozen_rows_of_a_gpu_are_read_as_they_were_while_training_goes_on(
    rule: RowRule, deterministic: None
) -> None:
    made = trained(collection(device_of(0), rule))
    wanted = {t: {a: v.cpu() for a, v in of.items()} for t, of in made.state().items()}
    frozen = made.freeze()
    go_on(made)
    for table, arrays in frozen.items():
        for array, rows in arrays.items():
            out = torch.empty(rows.shape, dtype=rows.dtype)
            rows.read(0, rows.shape[0], out)
            assert torch.equal(out, wanted[table][array])
    assert not torch.equal(made.state()["item"]["weight"].cpu(), wanted["item"]["weight"])
    made.thaw()


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
def test_without_a_gpu_everything_lies_on_the_cpu() -> None:
    assert device_of(3) == torch.device("cpu")
    assert all(
        rows.device == torch.device("cpu")
        for arrays in trained(collection(device_of(0), Sgd(0.1))).state().values()
        for rows in arrays.values()
    )
