"""The embedding step on two ranks of one thread: against Horovod's own ways, and against one process.

    make bench-embedding_ranks
    make bench-embedding_ranks ARGS=--quick

Tables, ids and global batch are those of embedding_step; every rank has half of the batch. A round is one process
with two threads and then two ranks with one each, started anew. The last pair is a whole training step of the ranking
model, 1,024 windows of history in all; beside it, without a target, one of as many windows as conf has by default.
Loader, log and heartbeat are left out.

- ours: rows sharded over the ranks, row-wise Adagrad
- Horovod's sparse path: every rank has all tables, EmbeddingBag(sparse=True), SGD: the cheapest update there is
- sparse_as_dense: the same with gradients as large as the tables
- bytes: what ours sends, ids and padding included, over 8 bytes for the id and 8 x width for the row and its
  gradient, for each distinct row of a rank's batch that lies on the other rank
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from datetime import date
from itertools import count, cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.embedding_step import Problem, Size, ours, problem, tables_of
from benchmarks.paired import Condition, arguments, ratios, seconds, show
from benchmarks.ranks import run_alone, run_ranks
from benchmarks.zipf import zipf
from recsys.config.ranking import RankingConfig
from recsys.data import Batch
from recsys.data.batches import generator
from recsys.embeddings import Comm, HorovodComm, LocalComm, ShardedEmbeddings
from recsys.models.ranking_fields import Attributes
from recsys.training.loop import DROPOUT, NEGATIVES
from recsys.training.ranking import RankingTask

BENCHMARK = "embedding_ranks"
FOUND = "FOUND "
RANKS = 2
TIMEOUT_SECONDS = 900
WINDOWS, WINDOW = 1024, 30
"""The ranking model's global batch: about 5,000 events to predict, each beside four negatives."""
WINDOWS_OF_CONF = RankingConfig().global_batch_size
SHARDED, ALONE = "ours, two ranks x one thread", "ours, one process x two threads"
SPARSE, DENSE = "Horovod's sparse path", "sparse_as_dense"
TRAINING_STEP = (
    "training step of the ranking model, two ranks x one thread to one process x two threads"
)
EMBEDDING_PART = "embedding part, two ranks x one thread to one process x two threads"
BYTES = "bytes on the wire to the unique-row bound"


Sides = Mapping[str, tuple[Callable[[], None], int]]
"""By name a step, and how often it is timed."""


class Sharded:
    """Ours, on this rank's part of the batches."""

    def __init__(self, given: Problem, comm: Comm) -> None:
        self.tables = ShardedEmbeddings(tables_of(given), comm, seed=1)
        self._given, self._comm = given, comm
        self._batches = cycle(parts_of(given, comm))

    def __call__(self) -> None:
        ids, grads = next(self._batches)
        found = self.tables.look_up(dict(zip(self._given.names(), ids, strict=True)))
        torch.autograd.backward(list(found.values()), grads)
        self.tables.update()

    def measured(self) -> tuple[float, str]:
        """A round over all batches: the bytes sent over the bound, of both ranks; and where the time goes."""
        self.tables.take_figures()
        for _ in self._given.batches:
            self()
        figures, steps = self.tables.take_figures(), len(self._given.batches)
        rows = 0
        for batch in self._given.batches:
            for ids in batch:
                mine = torch.unique(part_of(ids, self._comm))
                rows += int((mine % RANKS != self._comm.rank).sum())
        sent, wanted = self._comm.sum([figures.sent_bytes, rows], "bytes")
        spent = ", ".join(
            f"{phase} {1e3 * getattr(figures, f'{phase}_seconds') / steps:.1f} ms"
            for phase in ("route", "exchange", "look_up", "update")
        )
        return sent / (wanted * (8 + 8 * self._given.size.dim)), spent


def part_of(values: Tensor, comm: Comm) -> Tensor:
    return values[comm.rank :: comm.size].contiguous()


def parts_of(given: Problem, comm: Comm) -> list[tuple[list[Tensor], list[Tensor]]]:
    grads = [part_of(grad, comm) for grad in given.grads]
    return [([part_of(ids, comm) for ids in batch], grads) for batch in given.batches]


def replicated(given: Problem, comm: Comm, *, as_dense: bool) -> Callable[[], None]:
    """Horovod's DistributedOptimizer over whole tables on every rank."""
    import horovod.torch as hvd  # noqa: PLC0415

    modules = nn.ModuleDict(
        {
            name: nn.EmbeddingBag(rows, given.size.dim, mode="sum", sparse=True)
            for name, rows in zip(given.names(), given.rows_by_table, strict=True)
        }
    )
    prefix = DENSE if as_dense else SPARSE
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(modules.parameters(), lr=0.01),
        named_parameters=[(f"{prefix}.{name}", p) for name, p in modules.named_parameters()],
        sparse_as_dense=as_dense,
    )
    batches = cycle(parts_of(given, comm))

    def step() -> None:
        ids, grads = next(batches)
        optimizer.zero_grad()
        starts_B = torch.arange(len(ids[0]))
        found = [
            module(of_table, starts_B)
            for module, of_table in zip(modules.values(), ids, strict=True)
        ]
        torch.autograd.backward(found, grads)
        optimizer.step()

    return step


def ranking_batches(windows: int, num_users: int, num_items: int) -> list[Batch]:
    """Windows of history in which every sixth event is to be predicted; few items are in most of them."""
    batches = []
    for number in range(4):
        draw = np.random.default_rng(number)
        shape = (windows, WINDOW)
        items = 1 + zipf(draw, shape, num_items)
        items[:, 0] = 0  # the users' whole histories: every place knows all that was before it
        ages = np.sort(draw.exponential(30, shape).astype(np.float32), axis=1)[:, ::-1].copy()
        targets = draw.random(shape) < 1 / 6
        targets[:, 0] = False
        users = draw.integers(1, num_users + 1, windows)
        columns = (np.arange(windows), users, items, ages, targets)
        batches.append(Batch(*(torch.from_numpy(column) for column in columns)))
    return batches


def ranking_attributes(num_users: int, num_items: int) -> Attributes:
    draw = np.random.default_rng(1)
    return Attributes(
        segment_num_U=draw.integers(1, 6, num_users + 1).astype(np.int32),
        category_num_I=draw.integers(1, 201, num_items + 1).astype(np.int32),
        price_bucket_I=draw.integers(1, 11, num_items + 1).astype(np.int32),
        num_events_I=draw.integers(1, 100, num_items + 1),
        is_cut_U=np.zeros(num_users + 1, dtype=np.bool_),
        segments=tuple(f"segment {number}" for number in range(5)),
        categories=tuple(f"category {number}" for number in range(200)),
    )


def ranking_step(comm: Comm, rows: int, windows: int) -> Callable[[], None]:
    """A whole step as the trainer takes it, on this rank's part of the batch; all else as conf has it by default.

    The trainer allows deterministic algorithms alone, and so must the caller.
    """
    config = RankingConfig()
    num_users, num_items = max(rows // 2, 100), max(rows // 5, 100)
    attributes = ranking_attributes(num_users, num_items)
    task = RankingTask(
        config, attributes, as_of=date(2026, 1, 1), max_length=WINDOW - 1, quiet_days=0.0, seed=1
    )
    embeddings = ShardedEmbeddings(task.tables, comm, seed=1)
    optimizer = comm.wrap_optimizer(torch.optim.AdamW(task.dense.parameters(), lr=1e-3), task.dense)
    numbers = count()
    batches = cycle(
        [
            Batch(*(part_of(column, comm) for column in batch))
            for batch in ranking_batches(windows, num_users, num_items)
        ]
    )

    def step() -> None:
        place = (1, next(numbers), comm.rank)
        torch.manual_seed(generator(*place, DROPOUT).initial_seed())
        asked = task.ask(next(batches), generator(*place, NEGATIVES))
        vectors = embeddings.look_up(asked.ids)
        optimizer.zero_grad()
        loss = task.loss(asked, vectors)
        loss.backward()  # type: ignore[no-untyped-call]
        comm.synchronize(optimizer)
        float(nn.utils.clip_grad_norm_(task.dense.parameters(), config.max_gradient_norm))
        comm.sum([float(loss.detach()), 0.0], "loss")
        comm.step(optimizer)
        embeddings.update()

    return step


def ranking_sides(comm: Comm, size: Size, repeats: int) -> Sides:
    return {
        training(windows, comm.size): (ranking_step(comm, size.rows, windows), repeats)
        for windows in (WINDOWS, WINDOWS_OF_CONF)
    }


def training(windows: int, ranks: int) -> str:
    who = "two ranks x one thread" if ranks > 1 else "one process x two threads"
    return f"ranking model, {windows:,} windows, {who}"


def timed(sides: Sides) -> dict[str, float]:
    """The median second of each side's steps, its first ones left out."""
    found = {}
    for name, (step, repeats) in sides.items():
        step()
        found[name] = statistics.median(seconds(step) for _ in range(repeats))
    return found


def one_rank(size: Size, repeats: int) -> None:
    """A round of what two processes do; rank 0 tells."""
    comm = HorovodComm()
    torch.set_num_threads(1)
    given = problem(size)
    sharded = Sharded(given, comm)
    taken = timed(
        {
            SHARDED: (sharded, repeats),
            SPARSE: (replicated(given, comm, as_dense=False), max(1, repeats // 3)),
            DENSE: (replicated(given, comm, as_dense=True), max(1, repeats // 4)),
        }
    )
    torch.use_deterministic_algorithms(True)
    taken |= timed(ranking_sides(comm, size, repeats))
    torch.use_deterministic_algorithms(False)
    wire, spent = sharded.measured()
    if comm.rank == 0:
        print(FOUND + json.dumps({"seconds": taken, "wire": wire, "spent": spent}), flush=True)


def one_process(size: Size, repeats: int) -> None:
    """A round of what one process does with two threads. Horovod is not in it: its thread would take from them."""
    torch.set_num_threads(2)
    taken = timed({ALONE: (ours(problem(size)), repeats)})
    torch.use_deterministic_algorithms(True)
    taken |= timed(ranking_sides(LocalComm(), size, repeats))
    print(FOUND + json.dumps({"seconds": taken}), flush=True)


def found_in(said: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said.partition(FOUND)[2].partition("\n")[0])
    return found


def run(size: Size, rounds: int, repeats: int) -> None:
    """Both sides in turn, in processes of their own."""
    module, limit = "benchmarks.embedding_ranks", TIMEOUT_SECONDS
    given = ["--rows", str(size.rows), "--batch", str(size.batch), "--repeats", str(repeats)]
    taken: dict[str, list[float]] = {}
    wires = []
    for _ in range(rounds):
        alone = found_in(
            run_alone(module, [*given, "--part", "alone"], threads=2, timeout_seconds=limit)
        )
        together = found_in(
            run_ranks(module, [*given, "--part", "ranks"], RANKS, threads=1, timeout_seconds=limit)
        )
        wires.append(together["wire"])
        for name, of_round in (alone["seconds"] | together["seconds"]).items():
            taken.setdefault(name, []).append(of_round)
    show(taken)
    print(f"ours, a step of rank 0: {together['spent']}")
    part = statistics.median(ratios_of_training(taken, WINDOWS_OF_CONF))
    print(
        f"training step of {WINDOWS_OF_CONF} windows, as conf has them, two ranks to one process: {part:.2f}"
    )
    # Another size is not the one that the targets are about.
    measured, facts = size == Size(), {"rows": size.rows, "batch": size.batch}
    for case in (SPARSE, DENSE):
        Condition(BENCHMARK, case).report(ratios(taken, case, SHARDED), measured=measured, **facts)
    Condition(BENCHMARK, TRAINING_STEP).report(
        ratios_of_training(taken, WINDOWS), measured=measured, rows=size.rows, windows=WINDOWS
    )
    Condition(BENCHMARK, EMBEDDING_PART).report(
        ratios(taken, ALONE, SHARDED), measured=measured, **facts
    )
    Condition(BENCHMARK, BYTES).report(wires, measured=measured, **facts)


def ratios_of_training(taken: Mapping[str, list[float]], windows: int) -> list[float]:
    return ratios(taken, training(windows, 1), training(windows, RANKS))


def main(words: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=Size().rows, help="of all tables together")
    parser.add_argument("--batch", type=int, default=Size().batch, help="of both ranks together")
    parser.add_argument("--repeats", type=int, default=12, help="steps timed in a round")
    parser.add_argument("--part", choices=("alone", "ranks"), help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    size = Size(rows=asked.rows, batch=asked.batch)
    if asked.part:
        {"alone": one_process, "ranks": one_rank}[asked.part](size, asked.repeats)
    else:
        run(size, min(asked.rounds, 2) if asked.quick else asked.rounds, asked.repeats)


if __name__ == "__main__":
    main()
