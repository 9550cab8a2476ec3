"""The training loop: one task on this rank's examples, in step with the other ranks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from recsys.data import (
    Batch,
    EpochPosition,
    Examples,
    Leg,
    ShareLoader,
    batch_sizes,
    generator,
    num_steps,
    read_examples,
)
from recsys.embeddings import CPU, Comm, ShardedEmbeddings, plan_tables
from recsys.errors import ContractError, RecsysError, Refused
from recsys.failpoints import failpoint
from recsys.training.figures import Clock, EpochFigures
from recsys.training.keeper import Keeper, Progress, Report, Weights
from recsys.training.spec import Fit, FitResult
from recsys.training.task import Task

# What a random generator is for: part of its seed, so that no two share a stream.
NEGATIVES, DROPOUT = 2, 3


class Beat(Protocol):
    def __call__(self, step: int, doing: str) -> None: ...


class Trainer:
    """One fit on one rank."""

    def __init__(
        self, fit: Fit, task: Task, comm: Comm, *, folder: Path, epochs: int, report: Report, beat: Beat,
        device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self.fit, self.task, self.comm, self.epochs = fit, task, comm, epochs
        self.folder, self.report, self.beat = folder, report, beat
        self.config, self.pace = fit.training, fit.pace
        plan = plan_tables(
            task.tables, comm.size, bytes_per_rank=self.config.table_bytes_per_process
        )
        report(event="tables_planned", plan=plan.describe())
        self.embeddings = ShardedEmbeddings(
            task.tables, comm, seed=self.config.seed, plan=plan, device=device
        )
        task.dense.to(device)
        comm.broadcast_parameters(task.dense)
        adam = torch.optim.AdamW(
            task.dense.parameters(),
            lr=self.pace.learning_rate,
            weight_decay=self.pace.weight_decay,
        )
        self.optimizer = comm.wrap_optimizer(adam, task.dense)
        weights = Weights(task.dense, self.optimizer, self.embeddings)
        self.progress = Progress()
        self.keeper = Keeper(fit, weights, comm, folder, report=report, doing=self._doing)
        self.progress = self.keeper.resume()
        self.loader = ShareLoader(self._read, rank=comm.rank, size=comm.size, seed=self.config.seed)
        self.clock = Clock()
        self.shares: list[int] = []
        """Examples of each rank in the leg under way, done or not."""

    def train(self) -> FitResult:
        """Train to the last epoch, or until validation no longer gets better."""
        started = time.monotonic()
        while not self._done():
            self._train_epoch()
            self._validate()
            self.keeper.begin(self.progress)
        self.keeper.finish()
        return FitResult(
            name=self.fit.name,
            best_epoch=self.progress.best_epoch,
            checkpoint=self.keeper.best(self.progress),
            validation=self.progress.validation,
            seconds=time.monotonic() - started,
            num_examples=self.progress.num_examples,
        )

    def _doing(self, what: str) -> None:
        self.beat(self.progress.step, what)

    def _read(self, rank: int, size: int) -> Examples:
        """One rank's examples; another's where the epoch began with another number of processes."""
        return self.task.keep(
            read_examples(
                self.fit.files, width=self.fit.history_length + 1, num_items=self.fit.num_items,
                num_users=self.fit.num_users or None, rank=rank, size=size,
                each_read=partial(self._doing, "reading examples"),
            )
        )  # fmt: skip

    def _done(self) -> bool:
        progress = self.progress
        if progress.epoch >= self.epochs:
            return True
        waited = progress.epoch - progress.best_epoch
        return bool(progress.validation) and progress.epoch > 0 and waited >= self.pace.patience

    def _place(self) -> EpochPosition:
        """Where this epoch goes on; all ranks know the share of each and agree on the steps of a new leg.

        A problem with one rank's files is an error on all, so that none waits for it.
        """
        position = self.progress.position or EpochPosition(epoch=self.progress.epoch + 1, legs=())
        share, problem = 0, ""
        try:
            share = self.loader.share_size(position)
        except RecsysError as error:
            problem = str(error)
        said = [
            json.loads(t) for t in self.comm.gather_texts(json.dumps([share, problem]), "shares")
        ]
        if problems := [f"rank {rank}: {text}" for rank, (_, text) in enumerate(said) if text]:
            raise ContractError("; ".join(problems)[:2000])
        self.shares = [share for share, _ in said]
        if position.under_way(self.comm.size):
            return position
        if not position.legs:  # else these are what another number of ranks has left
            self.progress.num_examples = sum(self.shares)
            if not self.progress.num_examples:
                raise ContractError(
                    f"no training example of {self.fit.name} predicts anything: no user has a target event at "
                    f"least training.quiet_days={self.config.quiet_days} after another event"
                )
        steps = num_steps(max(self.shares), self.pace.batch_size_of_each(self.comm.size))
        leg = Leg(world_size=self.comm.size, steps=steps, done=0)
        return position.model_copy(update={"legs": (*position.legs, leg)})

    def _train_epoch(self) -> None:
        self._doing("reading examples")
        started = time.perf_counter()
        self.progress.position = self._place()
        leg = self.progress.position.legs[-1]
        self.report(
            event="epoch_started", epoch=self.progress.position.epoch, epochs=self.epochs, done=leg.done,
            steps=leg.steps, examples=self.progress.num_examples, read_seconds=time.perf_counter() - started,
        )  # fmt: skip
        self.task.dense.train()
        figures = EpochFigures(self.clock, self.embeddings, self.comm)
        batches = self.loader.batches(self.progress.position)
        while (batch := self._next(batches)) is not None:
            loss, norm = self._train_step(batch)
            figures.step_done(len(batch.example_id_B))
            self.report(event="step", step=self.progress.step, epoch=self.progress.epoch + 1,
                        loss=loss, gradient_norm=norm)  # fmt: skip
            if self.progress.epoch_is_done:
                break
            self.keeper.between_steps(self.progress)
        self.progress.end_epoch()
        self.report(event="epoch_trained", epoch=self.progress.epoch, epochs=self.epochs,
                    step=self.progress.step, **figures.of_all_ranks())  # fmt: skip

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        with self.clock("load"):
            return next(batches, None)

    def _train_step(self, batch: Batch) -> tuple[float, float]:
        """One update; returns the mean loss of all examples and the norm of the dense gradient before clipping."""
        progress = self.progress
        progress.step += 1
        failpoint(f"train:step {progress.step} of rank {self.comm.rank}")
        self._set_learning_rate()
        place = (self.config.seed, progress.step, self.comm.rank)
        # Made anew each step: (seed, step, rank) is all the state that random numbers have.
        torch.manual_seed(generator(*place, DROPOUT).initial_seed())
        self.beat(progress.step, "asking the tables")
        with self.clock("dense"):
            asked = self.task.ask(batch, generator(*place, NEGATIVES))
        vectors = self.embeddings.look_up(asked.ids)
        self.beat(progress.step, "computing")
        with self.clock("dense"):
            self.optimizer.zero_grad()
            loss = self.task.loss(asked, vectors) * self._weight()
            loss.backward()  # type: ignore[no-untyped-call]
        self.beat(progress.step, "summing dense gradients")
        with self.clock("exchange"):
            self.comm.synchronize(self.optimizer)
            norm = float(
                nn.utils.clip_grad_norm_(self.task.dense.parameters(), self.pace.max_gradient_norm)
            )
            mine = float(loss.detach())
            total, self.keeper.ranks_ready = self.comm.sum([mine, self.keeper.ready], "loss")
        mean_loss = total / self.comm.size
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            self._refuse(mine, norm, vectors)
        self.beat(progress.step, "updating the tables")
        with self.clock("update"):
            self.comm.step(self.optimizer)
        self.embeddings.update()
        progress.count_step()
        return mean_loss, norm

    def _weight(self) -> float:
        """Of this rank's mean loss in the mean of the ranks, so that every example of a step counts the same.

        Shares are whole row groups, so ranks have unequal batches. All know all shares: nothing is sent.
        """
        assert self.progress.position is not None
        leg = self.progress.position.legs[-1]
        sizes = batch_sizes(self.shares, leg.steps, leg.done)
        return self.comm.size * sizes[self.comm.rank] / max(1, sum(sizes))

    def _refuse(self, loss: float, norm: float, vectors: Mapping[str, Tensor]) -> None:
        """Name what is no number: losses, tables by their rows, the first gradient of a table."""
        tables = [name for name, rows in vectors.items() if not rows.isfinite().all()]
        said = self.comm.gather_texts(json.dumps([str(loss), tables]), "losses")
        bad = []
        for rank, (text, names) in enumerate(map(json.loads, said)):
            if not math.isfinite(float(text)):
                bad.append(f"loss {text} on rank {rank}")
            bad += [f"rows of table {name!r} that rank {rank} asked for" for name in names]
        try:
            self.embeddings.update()  # which looks first; nothing of what it may change is kept
        except Refused as error:
            bad.append(str(error))
        raise Refused(
            f"training {self.fit.name} stopped, not finite: {'; '.join([*bad, f'gradient norm {norm}'])}, at "
            f"step {self.progress.step}, epoch {self.progress.epoch + 1}. The last checkpoint is kept in "
            f"{self.folder}; lower {self.pace.section}.learning_rate, or look at the examples"
        )

    def _set_learning_rate(self) -> None:
        share = self.pace.share_of_rate(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.learning_rate * share

    def _validate(self) -> None:
        self.task.dense.eval()
        self._doing("validating")
        started = time.perf_counter()
        with torch.no_grad():
            found = self.task.validate(
                self.embeddings, self.comm, partial(self._doing, "validating")
            )
        if found is None:
            return
        self.progress.validation = (*self.progress.validation, found)
        self.report(event="validated", epoch=self.progress.epoch, metric=self.task.metric, value=found,
                    step=self.progress.step, seconds=time.perf_counter() - started)  # fmt: skip
