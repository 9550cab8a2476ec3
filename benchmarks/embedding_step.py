"""One step of the embedding tables (look up, backward, update) against torch's own, in one process of two threads.

    make bench-embedding_step
    make bench-embedding_step ARGS=--quick

26 tables of 1M rows in all, width 64, a batch of 8192 with one id per table and example, ids by Zipf's law of
exponent 1.05 truncated at the table's rows, row-wise Adagrad. Beside them, without a target: fbgemm-gpu-cpu where
it is installed, this project's own torch path, and the bytes that must move over the speed of a copy.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.paired import ROUNDS, Condition, alternately, arguments, ratios, seconds, show
from benchmarks.zipf import EXPONENT
from recsys.embeddings import EmbeddingTable, LocalComm, RowwiseAdagrad, ShardedEmbeddings
from recsys.embeddings.rows import TorchRows

# Shape suffixes in this file:
#   B examples   D embedding width

THREADS = 2
LEARNING_RATE = 0.01
BATCHES = 4
ADAM, SPARSE = "dense Adam", "EmbeddingBag(sparse) + SparseAdam"


@dataclass(frozen=True)
class Size:
    num_tables: int = 26
    rows: int = 1_000_000
    """Of all tables together."""
    dim: int = 64
    batch: int = 8192


@dataclass(frozen=True)
class Problem:
    size: Size
    rows_by_table: list[int]
    batches: list[list[Tensor]]
    """By batch and table, (B,) int64."""
    grads: list[Tensor]
    """By table, (B, D): the gradient of what was looked up, the same in each step."""

    def names(self) -> list[str]:
        return [f"feature_{number}" for number in range(self.size.num_tables)]


def problem(size: Size, seed: int = 17) -> Problem:
    """The same ids are popular in every batch; which ones is drawn."""
    draw = np.random.default_rng(seed)
    each, more = divmod(size.rows, size.num_tables)
    rows = [each + (number < more) for number in range(size.num_tables)]
    popular = [draw.permutation(n) for n in rows]
    shares = [np.cumsum(np.arange(1, n + 1) ** -EXPONENT) for n in rows]
    batches = [
        [
            torch.from_numpy(order[np.searchsorted(share, draw.random(size.batch) * share[-1])])
            for order, share in zip(popular, shares, strict=True)
        ]
        for _ in range(BATCHES)
    ]
    torch.manual_seed(seed)
    grads = [torch.randn(size.batch, size.dim) * 1e-3 for _ in rows]
    return Problem(size, rows, batches, grads)


def tables_of(given: Problem) -> list[EmbeddingTable]:
    return [
        EmbeddingTable(name, rows, given.size.dim, RowwiseAdagrad(LEARNING_RATE))
        for name, rows in zip(given.names(), given.rows_by_table, strict=True)
    ]


def ours(given: Problem, *, compiled: bool = True) -> Callable[[], None]:
    made = ShardedEmbeddings(tables_of(given), LocalComm(), seed=1)
    if not compiled:
        for shard in made.shards:
            shard.ops = TorchRows()

    def step(ids: list[Tensor]) -> None:
        found = made.look_up(dict(zip(given.names(), ids, strict=True)))
        torch.autograd.backward(list(found.values()), given.grads)
        made.update()

    return in_turn(given, step)


def torch_tables(given: Problem, kind: str) -> Callable[[], None]:
    sparse = kind == SPARSE
    modules = [
        nn.EmbeddingBag(rows, given.size.dim, mode="sum", sparse=sparse)
        for rows in given.rows_by_table
    ]
    parameters = [module.weight for module in modules]
    starts_B = torch.arange(given.size.batch)
    optimizer = (torch.optim.SparseAdam if sparse else torch.optim.Adam)(parameters, LEARNING_RATE)

    def step(ids: list[Tensor]) -> None:
        optimizer.zero_grad()
        found = [module(of_table, starts_B) for module, of_table in zip(modules, ids, strict=True)]
        torch.autograd.backward(found, given.grads)
        optimizer.step()  # type: ignore[no-untyped-call]

    return in_turn(given, step)


def fbgemm(given: Problem) -> Callable[[], None] | None:
    """Meta's tables, split and fused; None where they are not installed."""
    try:
        # Not among this project's packages: compared with where someone has installed it.
        prefix = "fbgemm_gpu.split_table_batched_embeddings_ops"
        configs = importlib.import_module("fbgemm_gpu.split_embedding_configs")
        common = importlib.import_module(f"{prefix}_common")
        training = importlib.import_module(f"{prefix}_training")
    except ImportError:
        return None
    host = (common.EmbeddingLocation.HOST, training.ComputeDevice.CPU)
    tables = training.SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, given.size.dim, *host) for rows in given.rows_by_table],
        optimizer=configs.EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=LEARNING_RATE,
    )
    starts = torch.arange(given.size.num_tables * given.size.batch + 1)
    grad = torch.cat(given.grads, dim=1)

    def step(ids: list[Tensor]) -> None:
        tables(torch.cat(ids), starts).backward(grad)

    return in_turn(given, step)


def in_turn(given: Problem, step: Callable[[list[Tensor]], None]) -> Callable[[], None]:
    """The step on one batch after the other."""
    turn = itertools.cycle(given.batches)
    return lambda: step(next(turn))


def must_move(given: Problem) -> float:
    """Bytes: vectors written, their gradients read, each distinct row read for the look-up, read and written after."""
    size = given.size
    vectors = size.num_tables * size.batch
    distinct = statistics.mean(
        sum(len(torch.unique(ids)) for ids in batch) for batch in given.batches
    )
    return 4 * size.dim * (2 * vectors + 3 * distinct)


def copy_bytes_per_second() -> float:
    """Read and written, of a copy far larger than any cache."""
    source, target = torch.ones(64 << 20), torch.zeros(64 << 20)
    best = min(seconds(lambda: target.copy_(source)) for _ in range(5))
    return 2 * source.numel() * 4 / best


def run(size: Size, *, rounds: int = ROUNDS, repeats: int = 5) -> None:
    torch.set_num_threads(THREADS)
    given = problem(size)
    sides = {
        "ours": ours(given),
        SPARSE: torch_tables(given, SPARSE),
        ADAM: torch_tables(given, ADAM),
        "ours, in torch": ours(given, compiled=False),
    }
    if (side := fbgemm(given)) is not None:
        sides["fbgemm-gpu-cpu"] = side
    taken = alternately(sides, rounds=rounds, repeats=repeats)
    show(taken)
    bound = must_move(given) / copy_bytes_per_second()
    part = bound / statistics.median(taken["ours"])
    print(f"bytes that must move, at the speed of a copy: {1e3 * bound:.1f} ms, {part:.2f} of ours")
    for case in (SPARSE, ADAM):
        # Another size is not the one that the target is about.
        Condition("embedding_step", case).report(
            ratios(taken, case, "ours"), measured=size == Size(), rows=size.rows, batch=size.batch
        )


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=Size().rows, help="of all tables together")
    parser.add_argument("--batch", type=int, default=Size().batch)
    asked = parser.parse_args(given)
    size = Size(rows=asked.rows, batch=asked.batch)
    run(size, rounds=asked.rounds, repeats=3 if asked.quick else 9)


if __name__ == "__main__":
    main()
