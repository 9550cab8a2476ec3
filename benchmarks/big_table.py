"""A table of 10M rows x 64 on two Horovod ranks: it trains, what memory it takes, and what its checkpoints cost.

    make bench-big_table
    make bench-big_table ARGS=--quick             # 4M rows, three rounds
    make bench-big_table ARGS="--rows 1000000 --rounds 3 --folder /mnt/disk/checkpoints"

Row-wise Adagrad, batches of 8192 ids a rank, Zipf 1.05 truncated at the table's rows. A round is a copy of the
checkpoint's files by one process, fsynced, then a save with training at rest, printed beside, then steps alone, then a
save with training going on, from ``begin`` until ``commit`` returns. Speed and pause are those of this last one: it is
the save that training makes. Memory is the peak of a rank's resident bytes above those before the table was made, over
the bytes of its rows and their state; the making of the table is in it. Training stands still in ``begin`` and
``commit``; in between its steps are slower, on cores and a disk that the writing threads need too. That time is told
apart, and both together beside it. Sizes other than 10M rows claim nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.paired import Condition, arguments, seconds
from benchmarks.ranks import run_ranks
from benchmarks.zipf import zipf
from recsys.config.places import CHECKOUT
from recsys.embeddings import Comm, EmbeddingTable, HorovodComm, RowwiseAdagrad, ShardedEmbeddings
from recsys.training.checkpoint import Facts, Saver, newest

RANKS = 2
DIM = 64
BATCH = 8192
STEPS = 20
"""Before the first save, and alone before each save in training."""
ROWS, QUICK_ROWS, QUICK_ROUNDS = 10_000_000, 4_000_000, 3
TABLE = "item"
TIMEOUT_SECONDS = 3600
SPEED = "checkpoint speed to a file copy"
PAUSED = "training paused of the time of a checkpoint"


@dataclass
class Found:
    """What one rank measured; seconds and bytes, one of each kind a round."""

    table_bytes: int = 0
    """This rank's rows and their state."""
    making_bytes: int = 0
    """Peak above idle while the table is made."""
    training_bytes: int = 0
    """Peak above idle over the steps."""
    losses: list[float] = field(default_factory=list)
    """Of the first and the last step before the first save."""
    rate: int = 0
    """Examples a second, of all ranks."""
    files_bytes: int = 0
    copy_seconds: list[float] = field(default_factory=list)
    rest_seconds: list[float] = field(default_factory=list)
    """Saves with training at rest."""
    save_bytes: list[int] = field(default_factory=list)
    """Peak above idle during a save, training going on."""
    save_seconds: list[float] = field(default_factory=list)
    """From ``begin`` until ``commit`` returns, training going on."""
    paused_seconds: list[float] = field(default_factory=list)
    """In ``begin`` and ``commit``."""
    slower_seconds: list[float] = field(default_factory=list)
    """What the steps during a save took beyond as many just before it."""
    steps_in_save: list[int] = field(default_factory=list)


class Rank:
    """One of the processes."""

    def __init__(self, comm: Comm, folder: Path, rows: int) -> None:
        self.comm, self.folder = comm, folder
        self.draw = np.random.default_rng((17, comm.rank))
        self.found = Found()
        comm.barrier()
        self.idle_bytes = resident_bytes()
        reset_peak()
        table = EmbeddingTable(TABLE, rows, DIM, RowwiseAdagrad(0.05))
        self.embeddings = ShardedEmbeddings([table], comm, seed=17)
        self.rows = rows
        self.found.making_bytes = peak_bytes() - self.idle_bytes
        self.found.table_bytes = self.embeddings.plan.bytes_on(comm.rank)
        self.saver = Saver(folder, comm)

    def train(self) -> float:
        """One step: every vector is drawn to 1, so that a row that was asked for is one that changed."""
        ids_B = torch.from_numpy(zipf(self.draw, BATCH, self.rows))
        vectors_BD = self.embeddings.look_up({TABLE: ids_B})[TABLE]
        loss = (vectors_BD - 1).square().mean()
        assert loss.isfinite()
        loss.backward()  # type: ignore[no-untyped-call]
        self.embeddings.update()
        return float(loss.detach())

    def measure(self, rounds: int) -> Found:
        found = self.found
        reset_peak()
        first = self.train()
        taken = seconds(lambda: [self.train() for _ in range(STEPS)])
        found.rate = round(STEPS * BATCH * self.comm.size / taken)
        found.losses = [first, self.train()]
        found.training_bytes = peak_bytes() - self.idle_bytes
        # Warm: the first one finds memory and disk blocks that no one has used yet.
        path = self.save()
        found.files_bytes = sum(file.stat().st_size for file in path.iterdir())
        for _ in range(rounds):
            self.settle(path)
            found.copy_seconds.append(seconds(lambda: self.copy(path)))
            self.settle(path)
            found.rest_seconds.append(seconds(self.save))
            self.settle(path)
            step_seconds = self.undisturbed()
            reset_peak()
            found.save_seconds.append(seconds(partial(self.save_while_training, step_seconds)))
            found.save_bytes.append(peak_bytes() - self.idle_bytes)
        return found

    def save(self) -> Path:
        self.begin()
        return self.commit()

    def undisturbed(self) -> float:
        """Seconds of a step as those during a save are, without one."""
        self.step_of_save()
        return seconds(lambda: [self.step_of_save() for _ in range(STEPS)]) / STEPS

    def save_while_training(self, undisturbed_seconds: float) -> None:
        steps = 0
        paused, started = seconds(self.begin), time.perf_counter()
        while not self.step_of_save():
            steps += 1
        took = time.perf_counter() - started
        self.found.paused_seconds.append(paused + seconds(self.commit))
        self.found.steps_in_save.append(steps + 1)
        self.found.slower_seconds.append(took - (steps + 1) * undisturbed_seconds)

    def step_of_save(self) -> bool:
        """A step, and whether every rank has written its part: the trainer learns it with the loss."""
        self.train()
        return self.everywhere(self.saver.ready)

    def commit(self) -> Path:
        path = self.saver.commit()
        self.embeddings.thaw()
        return path

    def everywhere(self, mine: bool) -> bool:
        return self.comm.sum([float(mine)], "everywhere")[0] == self.comm.size

    def begin(self) -> None:
        facts = Facts(key="big_table", epoch=0, epoch_step=self.embeddings.step,
                      step=self.embeddings.step, world_size=self.comm.size)  # fmt: skip
        rows = self.embeddings.freeze()
        spread = {name: self.embeddings.spread(name) for name in rows}
        self.saver.begin(facts, {}, rows, spread, self.embeddings.step)

    def copy(self, path: Path) -> None:
        """By rank 0 alone; the others wait."""
        if self.comm.rank == 0:
            target = self.folder / "copy"
            target.mkdir()
            for file in path.iterdir():
                shutil.copyfile(file, target / file.name)
                with open(target / file.name, "rb+") as copied:
                    os.fsync(copied.fileno())
        self.comm.barrier()

    def settle(self, path: Path) -> None:
        """No side pays for what another left to be written, or finds the source gone from the cache."""
        if self.comm.rank == 0:
            for other in self.folder.iterdir():
                if other != path:
                    shutil.rmtree(other)
            os.sync()
            for file in path.iterdir():
                with open(file, "rb") as source:
                    while source.read(1 << 24):
                        pass
        self.comm.barrier()

    def verified(self) -> None:
        """What was saved is what is held now: no step since."""
        path = self.save()
        if self.comm.rank == 0:
            loaded = newest(self.folder, "big_table")
            assert loaded is not None and loaded.path == path
            for name, values in self.embeddings.state()[TABLE].items():
                read = loaded.rows(TABLE, name, 0, self.comm.size)
                assert torch.equal(torch.from_numpy(read), values)
        self.comm.barrier()


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Of resident memory since ``reset_peak``, as the kernel counts it: no sample can miss it."""
    status = Path("/proc/self/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


def of_rank(folder: Path, rows: int, rounds: int) -> None:
    """What each of the processes runs; leaves ``found-RANK.json``."""
    torch.set_num_threads(1)
    comm = HorovodComm()
    rank = Rank(comm, folder / "checkpoints", rows)
    found = rank.measure(rounds)
    rank.verified()
    (folder / f"found-{comm.rank}.json").write_text(json.dumps(vars(found)))


def measured(folder: Path, rows: int, rounds: int) -> list[Found]:
    """Start the ranks; what each of them found."""
    arguments_of_rank = [
        "--of-rank",
        "--folder",
        str(folder),
        "--rows",
        str(rows),
        "--rounds",
        str(rounds),
    ]
    run_ranks(
        "benchmarks.big_table", arguments_of_rank, RANKS, threads=1, timeout_seconds=TIMEOUT_SECONDS
    )
    return [
        Found(**json.loads((folder / f"found-{rank}.json").read_text())) for rank in range(RANKS)
    ]


def report(found: list[Found], rows: int) -> None:
    """The worse rank of each round counts: all wait for it."""
    first, *_ = found
    measured = rows == ROWS
    making = max(f.making_bytes / f.table_bytes for f in found)
    training = max(f.training_bytes / f.table_bytes for f in found)
    saving = zip(*([size / f.table_bytes for size in f.save_bytes] for f in found), strict=True)
    Condition("big_table", "memory above an idle rank to table and optimizer state").report(
        [max(making, training)], measured=measured, rows=rows, making=round(making, 3),
        training=round(training, 3), ranks=RANKS, mib_of_rank=first.table_bytes >> 20,
        examples_per_second=first.rate, loss=[round(loss, 4) for loss in first.losses],
    )  # fmt: skip
    case = "memory above an idle rank during a save to table and optimizer state"
    Condition("big_table", case).report(
        [max(of_ranks) for of_ranks in saving], measured=measured, rows=rows
    )
    copies, saves = first.copy_seconds, worst(f.save_seconds for f in found)
    paused, slower = (
        worst(f.paused_seconds for f in found),
        worst(f.slower_seconds for f in found),
    )
    Condition("big_table", SPEED).report(
        [copy / save for copy, save in zip(copies, saves, strict=True)], measured=measured, rows=rows,
        copy_seconds=middle(copies), save_seconds=middle(saves),
        save_at_rest_seconds=middle(worst(f.rest_seconds for f in found)), mib=first.files_bytes >> 20,
    )  # fmt: skip
    with_slower = [(p + s) / c for p, s, c in zip(paused, slower, copies, strict=True)]
    Condition("big_table", PAUSED).report(
        [pause / copy for pause, copy in zip(paused, copies, strict=True)], measured=measured, rows=rows,
        paused_seconds=middle(paused), slower_seconds=middle(slower), with_slower_steps=middle(with_slower),
        steps_meanwhile=first.steps_in_save,
    )  # fmt: skip


def worst(of_ranks: Iterable[Sequence[float]]) -> list[float]:
    """By round."""
    return [max(of_round) for of_round in zip(*of_ranks, strict=True)]


def middle(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def main(arguments_given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, default=CHECKOUT / "var" / "benchmarks" / "big_table",
                        help="on the disk to be measured; a folder of its own is made in it, and removed")  # fmt: skip
    parser.add_argument("--of-rank", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments_given)
    if asked.of_rank:
        of_rank(asked.folder, asked.rows, asked.rounds)
        return
    rows = min(asked.rows, QUICK_ROWS) if asked.quick else asked.rows
    rounds = min(asked.rounds, QUICK_ROUNDS) if asked.quick else asked.rounds
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="big_table-") as folder:
        report(measured(Path(folder), rows, rounds), rows)


if __name__ == "__main__":
    main()
