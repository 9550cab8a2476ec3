"""What a fit writes down on its way, and where it takes itself up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from recsys.data import EpochPosition
from recsys.embeddings import Comm, ShardedEmbeddings
from recsys.errors import ContractError
from recsys.failpoints import failpoint
from recsys.training import checkpoint
from recsys.training.checkpoint import Checkpoint, Facts, Saver, Search
from recsys.training.spec import Fit

Report = Callable[..., None]
"""Takes facts by name; rank 0 writes them where the job follows them."""


@dataclass
class Progress:
    """How far a fit is; a checkpoint holds it."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done, over all epochs."""
    position: EpochPosition | None = None
    """In the epoch under way; None between two."""
    validation: tuple[float, ...] = ()
    """By epoch."""
    num_examples: int = 0
    """That every epoch trains on, over all ranks; 0 before the first."""

    @property
    def best_epoch(self) -> int:
        """The earliest epoch with the best validation; the last one without any."""
        return checkpoint.best_epoch(self.validation) or self.epoch

    @property
    def epoch_step(self) -> int:
        """Steps done in the epoch under way, over all its legs."""
        return sum(leg.done for leg in self.position.legs) if self.position else 0

    @property
    def epoch_is_done(self) -> bool:
        assert self.position is not None
        leg = self.position.legs[-1]
        return leg.done == leg.steps

    def count_step(self) -> None:
        assert self.position is not None
        *before, leg = self.position.legs
        leg = leg.model_copy(update={"done": leg.done + 1})
        self.position = self.position.model_copy(update={"legs": (*before, leg)})

    def end_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, None


@dataclass(frozen=True)
class Weights:
    """Everything that training changes."""

    dense: nn.Module
    optimizer: Optimizer
    """Of ``dense``."""
    embeddings: ShardedEmbeddings

    def dense_arrays(self) -> dict[str, NDArray[Any]]:
        """Weights as ``model.NAME``, the state of their optimizer as ``optimizer.NUMBER.NAME``."""
        model, state = (
            checkpoint.model_arrays(self.dense),
            checkpoint.optimizer_arrays(self.optimizer),
        )
        return {
            **{f"model.{name}": array for name, array in model.items()},
            **{f"optimizer.{name}": array for name, array in state.items()},
        }

    def load(self, taken: Checkpoint, each_block: Callable[[], None] = lambda: None) -> None:
        """Take everything from a checkpoint that verifies; ``each_block`` is called after each block read.

        Raises:
            ContractError: it is of other layers or tables. To try again would give the same.
        """
        dense = taken.dense()
        try:
            checkpoint.load_model(self.dense, part_of(dense, "model."))
            checkpoint.load_optimizer(self.optimizer, part_of(dense, "optimizer."))
            self.embeddings.load_state(
                partial(taken.rows, each_block=each_block), step=taken.manifest.embedding_step
            )
        except (ContractError, RuntimeError, ValueError) as error:
            version = taken.manifest.facts.code_version or "an unnamed version"
            raise ContractError(
                f"checkpoint {taken.path}, written by the code of {version}, does not fit the model of today's: "
                f"{' '.join(str(error).split())[:600]}. Go on with that code, or remove {taken.path.parent} and "
                "train anew"
            ) from error

    def rules(self) -> dict[str, str]:
        """How each is updated, for the manifest."""
        tables = {name: repr(table.rule) for name, table in self.embeddings.tables.items()}
        return {"dense": type(self.optimizer).__name__, **tables}


class Keeper:
    """Checkpoints of one fit, written by all ranks. Every method but the property is collective."""

    def __init__(
        self, fit: Fit, weights: Weights, comm: Comm, folder: Path, *, report: Report,
        doing: Callable[[str], None] = lambda what: None,
    ) -> None:  # fmt: skip
        """``doing`` is told again and again what goes on where that may take minutes."""
        self.fit, self.weights, self.comm, self.folder = fit, weights, comm, folder
        self.report, self._doing = report, doing
        self.saver = Saver(folder, comm, going_on=partial(doing, "writing a checkpoint"))
        self._begun = Progress()
        self.ranks_ready = 0.0
        """How many ranks have written their part; the loop learns it with the loss."""

    @property
    def ready(self) -> bool:
        return self.saver.in_flight and self.saver.ready

    def resume(self) -> Progress:
        """Take up the newest checkpoint that verifies and has its best epoch, or start anew."""
        taken = self._search().newest()
        if taken is None:
            return Progress()
        self.load(taken)
        facts = taken.manifest.facts
        position = EpochPosition.model_validate(facts.position) if facts.position else None
        self.report(event="resumed", epoch=facts.epoch, step=facts.step, checkpoint=str(taken.path),
                    written_by=facts.world_size)  # fmt: skip
        return Progress(facts.epoch, facts.step, position, facts.validation, facts.num_examples)

    def load(self, taken: Checkpoint) -> None:
        """Make the weights those of a checkpoint that verifies."""
        self.weights.load(taken, partial(self._doing, "reading a checkpoint"))

    def between_steps(self, progress: Progress) -> None:
        """Commit what all ranks have written; begin anew where one is due."""
        every = self.fit.training.checkpoint_steps
        if self.saver.in_flight and self.ranks_ready == self.comm.size:
            self._commit()
        if every and progress.step % every == 0:
            self.begin(progress)

    def begin(self, progress: Progress) -> None:
        """Start to write; the loop goes on meanwhile."""
        if self.saver.in_flight:
            self._commit()
        embeddings = self.weights.embeddings
        tables = embeddings.freeze()
        facts = Facts(
            key=self.fit.key, epoch=progress.epoch, step=progress.step, epoch_step=progress.epoch_step,
            position=progress.position.model_dump(mode="json") if progress.position else {},
            seed=self.fit.training.seed, validation=progress.validation,
            num_examples=progress.num_examples, world_size=self.comm.size,
            plan=embeddings.plan.describe(), optimizer=self.weights.rules(), config_hash=self.fit.config_hash,
            vocabulary_hash=self.fit.vocabulary_hash, code_version=self.fit.code_version,
        )  # fmt: skip
        spread = {name: embeddings.spread(name) for name in tables}
        self.saver.begin(facts, self.weights.dense_arrays(), tables, spread, embeddings.step)
        self._begun = replace(progress)

    def finish(self) -> None:
        """Wait until what was begun is whole, and what is old is gone."""
        if self.saver.in_flight:
            self._commit()
        self.saver.wait_until_tidy()

    def best(self, progress: Progress) -> Path:
        """Raises ContractError where the checkpoint of the best epoch's end is gone or damaged."""
        epoch = progress.best_epoch
        found = self._search().end_of(epoch, progress.validation)
        if found is None:
            raise ContractError(
                f"no checkpoint of epoch {epoch} in {self.folder} verifies: run train again, it goes on from one "
                "that does"
            )
        return found.path

    def _search(self) -> Search:
        verifying = partial(self._doing, "verifying a checkpoint")
        return Search(self.folder, self.fit.key, self.comm, verifying)

    def _commit(self) -> None:
        try:
            written = self.saver.commit()
        finally:
            self.weights.embeddings.thaw()
        if self.comm.rank == 0:
            prune = partial(
                checkpoint.prune,
                self.folder,
                keep_newest=self.fit.training.keep_checkpoints,
                # Of what is written: a later epoch may be better and never come to be.
                keep_epoch=self._begun.best_epoch,
                key=self.fit.key,
                just_written=written,
            )
            self.saver.tidy(prune)
            self.report(
                event="checkpoint_written", epoch=self._begun.epoch, checkpoint=str(written)
            )
            failpoint("train:checkpoint_written")


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose name begins with ``prefix``, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
