"""The training loop: one model on this rank's examples, in step with the other ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from recsys.data import (
    Batch,
    Examples,
    draw_negatives,
    epoch_batches,
    generator,
    num_steps,
    read_examples,
)
from recsys.embeddings import Comm
from recsys.errors import ContractError, RecsysError, Refused
from recsys.failpoints import failpoint
from recsys.training import checkpoint
from recsys.training.checkpoint import CheckpointManifest
from recsys.training.objective import batch_loss, build_model, that_predict
from recsys.training.spec import Fit, FitResult
from recsys.training.validation import ValidationUsers, ndcg_sums, read_users

Report = Callable[..., None]
"""Takes facts by name; rank 0 writes them where the job follows them."""

# What a random generator is for: part of its seed, so that no two share a stream.
SHUFFLE, NEGATIVES, DROPOUT = 1, 2, 3


@dataclass
class Progress:
    """How far a fit is; a checkpoint holds it."""

    epoch: int = 0
    step: int = 0
    ndcg: tuple[float, ...] = ()

    @property
    def best_epoch(self) -> int:
        """The earliest epoch with the best NDCG; the last one without validation."""
        if not self.ndcg:
            return self.epoch
        return 1 + max(range(len(self.ndcg)), key=lambda i: (self.ndcg[i], -i))


class Trainer:
    """One fit on one rank."""

    def __init__(self, fit: Fit, comm: Comm, *, folder: Path, epochs: int, report: Report) -> None:
        self.fit, self.comm, self.folder, self.epochs, self.report = (
            fit,
            comm,
            folder,
            epochs,
            report,
        )
        self.config = fit.training
        self.progress = Progress()
        self.examples = self._read_share()
        self.validation = self._read_validation()
        shares = [int(text) for text in comm.gather_texts(str(len(self.examples)), "shares")]
        self.num_examples = sum(shares)
        if self.num_examples == 0:
            raise ContractError(
                f"no training example of {fit.name} predicts anything: no user has a target event at least "
                f"training.quiet_days={self.config.quiet_days} after another event"
            )
        self.steps = num_steps(max(shares), self.config.batch_size_of_each(comm.size))
        self.model = build_model(fit)
        self.optimizer = self._resume_or_start()

    def train(self) -> FitResult:
        """Train to the last epoch, or until validation no longer gets better."""
        started = time.monotonic()
        while not self._done():
            self._train_epoch()
            self._validate()
            self._save()
        best = self.progress.best_epoch
        found = checkpoint.of_epoch(self.folder, best)
        if found is None:
            raise ContractError(
                f"no checkpoint of epoch {best} in {self.folder} verifies: run train again"
            )
        return FitResult(
            name=self.fit.name,
            best_epoch=best,
            checkpoint=found,
            validation_ndcg_at_10=self.progress.ndcg,
            seconds=time.monotonic() - started,
            num_examples=self.num_examples,
        )

    def _read_share(self) -> Examples:
        """This rank's examples; a problem on one rank is an error on all, so that none waits for it."""
        examples, problem = None, ""
        try:
            examples = read_examples(
                self.fit.files,
                width=self.fit.history_length + 1,
                num_items=self.fit.num_items,
                rank=self.comm.rank,
                size=self.comm.size,
            )
            if len(examples) == 0:
                problem = (
                    f"no rows of training_examples for this rank of {self.comm.size}: the set has fewer "
                    "examples than processes; lower training.num_processes"
                )
        except RecsysError as error:
            problem = str(error)
        texts = self.comm.gather_texts(problem, "problems")
        if said := [f"rank {rank}: {text}" for rank, text in enumerate(texts) if text]:
            raise ContractError("; ".join(said)[:2000])
        assert examples is not None
        return that_predict(examples, quiet_days=self.config.quiet_days)

    def _read_validation(self) -> ValidationUsers | None:
        if not self.fit.validation:
            return None
        users = read_users(Path(self.fit.validation), history_length=self.fit.history_length)
        return users.share(self.comm.rank, self.comm.size)

    def _resume_or_start(self) -> torch.optim.Optimizer:
        # Rank 0 decides for all: another rank may look a moment later.
        found = checkpoint.newest(self.folder, key=self.fit.key, world_size=self.comm.size)
        path = self.comm.gather_texts(str(found or ""), "resume")[0]
        if path:
            checkpoint.load_model(self.model, checkpoint.read_arrays(Path(path) / "model.npz"))
        self.comm.broadcast_parameters(self.model)
        adam = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        optimizer = self.comm.wrap_optimizer(adam, self.model)
        if path:
            # Into the wrapped one: Horovod makes a new optimizer of the groups and leaves the state behind.
            checkpoint.load_optimizer(
                optimizer, checkpoint.read_arrays(Path(path) / "optimizer.npz")
            )
            manifest = checkpoint.read_manifest(Path(path))
            self.progress = Progress(manifest.epoch, manifest.step, manifest.validation_ndcg_at_10)
            self.report(event="resumed", epoch=manifest.epoch, checkpoint=path)
        return optimizer

    def _done(self) -> bool:
        if self.progress.epoch >= self.epochs:
            return True
        waited = self.progress.epoch - self.progress.best_epoch
        return (
            self.validation is not None
            and self.progress.epoch > 0
            and waited >= self.config.patience
        )

    def _train_epoch(self) -> None:
        epoch = self.progress.epoch + 1
        place = (self.config.seed, epoch, self.comm.rank)
        draw = generator(*place, NEGATIVES)
        torch.manual_seed(generator(*place, DROPOUT).initial_seed())
        self.model.train()
        started = time.monotonic()
        batches = epoch_batches(self.examples, steps=self.steps, shuffle=generator(*place, SHUFFLE))
        for batch in batches:
            loss, norm = self._train_step(batch, draw)
            self.report(
                event="step", step=self.progress.step, epoch=epoch, loss=loss, gradient_norm=norm
            )
        self.progress.epoch = epoch
        seconds = time.monotonic() - started
        self.report(
            event="epoch_trained", epoch=epoch, epochs=self.epochs, step=self.progress.step,
            seconds=seconds, examples_per_second=self.num_examples / seconds,
        )  # fmt: skip

    def _train_step(self, batch: Batch, draw: torch.Generator) -> tuple[float, float]:
        """One update; returns the mean loss of the ranks and the norm of the gradient before clipping."""
        self.progress.step += 1
        self._set_learning_rate()
        self.optimizer.zero_grad()
        negatives_S = draw_negatives(self.fit.num_items, self.config.num_negatives, draw)
        loss = batch_loss(self.model, batch, negatives_S, quiet_days=self.config.quiet_days)
        loss.backward()  # type: ignore[no-untyped-call]
        self.comm.synchronize(self.optimizer)
        norm = float(
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        )
        mean_loss = self.comm.mean(float(loss.detach()), "loss")
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise Refused(
                f"training {self.fit.name} stopped: loss {mean_loss}, gradient norm {norm} at step "
                f"{self.progress.step}, epoch {self.progress.epoch + 1}. The last checkpoint is kept in "
                f"{self.folder}; lower training.learning_rate, or look at the examples"
            )
        self.comm.step(self.optimizer)
        return mean_loss, norm

    def _set_learning_rate(self) -> None:
        warmup = self.config.warmup_steps
        share = min(1.0, self.progress.step / warmup) if warmup else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share

    def _validate(self) -> None:
        if self.validation is None:
            return
        self.model.eval()
        local, users = ndcg_sums(self.model, self.validation)
        total, num_users = self.comm.sum([local, float(users)], "validation")
        ndcg = total / num_users if num_users else 0.0
        self.progress.ndcg = (*self.progress.ndcg, ndcg)
        self.report(
            event="validated", epoch=self.progress.epoch, ndcg_at_10=ndcg, step=self.progress.step
        )

    def _save(self) -> None:
        """Rank 0 writes, the others wait: an epoch is done when its checkpoint is."""
        if self.comm.rank == 0:
            manifest = CheckpointManifest(
                key=self.fit.key,
                world_size=self.comm.size,
                epoch=self.progress.epoch,
                step=self.progress.step,
                validation_ndcg_at_10=self.progress.ndcg,
                files={},
            )
            arrays = {
                "model": checkpoint.model_arrays(self.model),
                "optimizer": checkpoint.optimizer_arrays(self.optimizer),
            }
            written = checkpoint.save(self.folder, arrays, manifest)
            checkpoint.prune(
                self.folder,
                keep_newest=self.config.keep_checkpoints,
                keep_epoch=self.progress.best_epoch,
            )
            self.report(
                event="checkpoint_written", epoch=self.progress.epoch, checkpoint=str(written)
            )
            failpoint("train:checkpoint_written")
        self.comm.barrier()
