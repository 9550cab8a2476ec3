"""What every training process runs: all fits of a spec, one after the other, in step with the other ranks.

``python -m recsys.training.worker SPEC.json`` is a process of ``horovodrun``; with ``--local`` the only one; with
``--torch RANK MEETING`` one of a group of torch.distributed, whose ranks meet in the file MEETING.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recsys.config.sections import TrainingConfig
from recsys.embeddings import (
    CPU,
    Comm,
    HorovodComm,
    LocalComm,
    ShardedEmbeddings,
    TorchComm,
    device_of,
)
from recsys.errors import Conflict, ContractError, RecsysError
from recsys.locks import exclusive
from recsys.models.ranking_fields import Attributes
from recsys.records import write_atomically
from recsys.training.checkpoint import Checkpoint, read_arrays, write_arrays
from recsys.training.heartbeat import Heartbeat
from recsys.training.histories_task import HistoriesTask
from recsys.training.keeper import Report
from recsys.training.loop import Trainer
from recsys.training.ranking import RankingTask
from recsys.training.sequential import SequentialTask
from recsys.training.spec import Fit, FitResult, TrainingSpec, answers_file
from recsys.training.task import Task
from recsys.training.validation import read_users

RESULTS = "results.json"
PROGRESS = "progress.jsonl"
LONGEST_ERROR = 2000


def horovod_main(spec_text: str) -> None:
    """One rank, started by ``horovod.spark`` or ``horovodrun``."""
    spec = TrainingSpec.model_validate_json(spec_text)
    with _saying_why(spec, lambda: int(os.environ.get("HOROVOD_RANK", "0"))):
        comm = HorovodComm()
        if comm.size != spec.world_size:
            raise ContractError(f"{comm.size} processes came up, {spec.world_size} were asked for")
        run_rank(spec, comm)


def local_main(spec_text: str) -> None:
    """The only process."""
    spec = TrainingSpec.model_validate_json(spec_text)
    with _saying_why(spec, lambda: 0):
        run_rank(spec, LocalComm())


def torch_main(spec_text: str, rank: int, meeting: Path) -> None:
    """One rank of torch.distributed."""
    spec = TrainingSpec.model_validate_json(spec_text)
    training = spec.fits[0].training
    with _saying_why(spec, lambda: rank):
        comm = TorchComm(
            rank=rank, size=spec.world_size, meeting=meeting, interface=training.network_interface,
            device=device_for(training, rank), timeout_seconds=2 * training.stall_timeout_seconds,
        )  # fmt: skip
        run_rank(spec, comm)
        comm.close()


def device_for(training: TrainingConfig, rank: int) -> torch.device:
    """Of this process; launchers say its number on its machine."""
    if training.device == "cpu":
        return CPU
    return device_of(int(os.environ.get("HOROVOD_LOCAL_RANK", rank)))


def run_rank(spec: TrainingSpec, comm: Comm) -> list[FitResult]:
    """Train every fit; rank 0 leaves results and progress in ``spec.work``."""
    torch.set_num_threads(spec.threads_per_process)
    torch.use_deterministic_algorithms(True)
    results: dict[str, FitResult] = {}
    timeout = spec.fits[0].training.stall_timeout_seconds
    with Heartbeat(spec.work, comm.rank, comm.size, timeout_seconds=timeout) as heart:
        for fit in spec.fits:
            folder = spec.checkpoint_folder(fit)
            with _reporting(spec, comm, fit) as report, _only_writer(folder, comm, fit):
                epochs = number_of_epochs(fit, results)
                report(event="fit_started", epochs=epochs, num_items=fit.num_items)
                task = task_of(fit)
                trainer = Trainer(
                    fit, task, comm, folder=folder, epochs=epochs, report=report, beat=heart.beat,
                    device=device_for(fit.training, comm.rank),
                )  # fmt: skip
                result = trainer.train()
                if fit.measured and isinstance(task, RankingTask):
                    # The folder will hold the best epoch's weights, not the last ones.
                    trainer.keeper.load(Checkpoint.open(result.checkpoint))
                    answering = partial(heart.beat, trainer.progress.step, "answering")
                    answer_users(
                        fit, task, trainer.embeddings, comm, spec.work, each_batch=answering
                    )
                report(event="fit_done", epoch=result.best_epoch, seconds=result.seconds)
            results[fit.name] = result
        if comm.rank == 0:
            content = json.dumps([r.model_dump(mode="json") for r in results.values()], indent=1)
            write_atomically(spec.work / RESULTS, content.encode())
        comm.barrier()
    return list(results.values())


def task_of(fit: Fit) -> Task:
    """The model that the fit trains."""
    if fit.histories is not None:
        return HistoriesTask(fit, fit.histories)
    if fit.ranking is None:
        return SequentialTask(fit)
    users = (
        read_users(Path(fit.validation), history_length=fit.history_length)
        if fit.validation
        else None
    )
    return RankingTask(
        fit.ranking, Attributes.of(read_arrays(Path(fit.attributes))), as_of=fit.as_of,
        max_length=fit.history_length, quiet_days=fit.training.quiet_days, seed=fit.training.seed,
        users=users,
    )  # fmt: skip


def answer_users(
    fit: Fit, task: RankingTask, embeddings: ShardedEmbeddings, comm: Comm, work: Path, *,
    each_batch: Callable[[], None],
) -> None:  # fmt: skip
    """Leave what the trained model says of ``fit.measured``, a file for each rank."""
    task.users = read_users(Path(fit.measured), history_length=fit.history_length)
    task.dense.eval()
    answers = task.answers(embeddings, comm, each_batch)
    write_arrays(answers_file(work, fit, comm.rank), vars(answers))


def number_of_epochs(fit: Fit, done: dict[str, FitResult]) -> int:
    """How many epochs at most: given, that of an earlier fit, or the most that conf allows."""
    if fit.epochs:
        return fit.epochs
    return done[fit.epochs_of].best_epoch if fit.epochs_of else fit.pace.max_epochs


@contextmanager
def _reporting(spec: TrainingSpec, comm: Comm, fit: Fit) -> Iterator[Report]:
    """Facts as JSON lines that the job follows; rank 0 alone writes."""
    if comm.rank != 0:
        yield lambda **facts: None
        return
    with open(spec.work / PROGRESS, "a", encoding="utf-8", buffering=1) as file:

        def report(**facts: Any) -> None:
            file.write(json.dumps({"fit": fit.name, **facts}) + "\n")

        yield report


@contextmanager
def _only_writer(folder: Path, comm: Comm, fit: Fit) -> Iterator[None]:
    """Rank 0 holds the checkpoint folder: the processes of a killed job may take a moment to end."""
    if comm.rank != 0:
        yield
        return
    give_up = time.monotonic() + fit.training.stall_timeout_seconds / 2
    with ExitStack() as held:
        while True:
            try:
                what = f"training of {folder.name}"
                held.enter_context(exclusive(folder / "lock", wait=False, what=what))
                break
            except Conflict:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)
        yield


@contextmanager
def _saying_why(spec: TrainingSpec, rank: Callable[[], int]) -> Iterator[None]:
    """Leave the error where the job finds it, before the launcher reports an exit code alone."""
    try:
        yield
    except BaseException as error:
        known = isinstance(error, RecsysError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        fact = {"kind": type(error).__name__ if known else "", "message": text[:LONGEST_ERROR]}
        write_atomically(spec.work / f"error-{rank()}.json", json.dumps(fact).encode())
        raise


def main(spec_file: str, *how: str) -> None:
    text = Path(spec_file).read_text(encoding="utf-8")
    match how:
        case ("--local",):
            local_main(text)
        case ("--torch", rank, meeting):
            torch_main(text, int(rank), Path(meeting))
        case _:
            horovod_main(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
