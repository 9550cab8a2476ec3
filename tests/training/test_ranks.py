"""Training on several ranks: any number of them takes up what another number wrote, and one's problem is all's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.embeddings import Comm
from recsys.errors import ContractError, Refused
from recsys.training import checkpoint
from recsys.training.keeper import Progress
from recsys.training.loop import Trainer
from recsys.training.model_folder import trained_weights
from recsys.training.sequential import ITEMS, SequentialTask
from recsys.training.spec import Fit
from recsys.training.worker import run_rank
from tests.embeddings.rank_threads import run_ranks
from tests.training.worlds import (
    NUM_ITEMS,
    cyclic_histories,
    tiny_training,
    world_spec,
    write_file,
)

# petastorm's own; catch_warnings, which the loader silences them by, knows no threads.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("FutureWarning", "DeprecationWarning", "ResourceWarning")
]


def trainer(fit: Fit, comm: Comm, folder: Path, *, epochs: int = 1) -> Trainer:
    return Trainer(
        fit, SequentialTask(fit), comm,
        folder=folder, epochs=epochs, report=lambda **facts: None, beat=lambda step, doing: None,
    )  # fmt: skip


def no_dropout(**changes: object) -> dict[str, object]:
    """Ranks that are threads share torch's own generator."""
    return {"dropout": 0.0, "global_batch_size": 30, **changes}


def test_tables_go_from_1_to_2_to_3_to_1_ranks_bit_for_bit_and_validate_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.embeddings.plan.REPLICATED_BELOW_BYTES", 0)  # spread over the ranks
    spec = world_spec(tmp_path, training=tiny_training(**no_dropout(max_epochs=2)))
    fit, folder = spec.fits[0], spec.checkpoint_folder(spec.fits[0])
    [written] = run_ranks(1, lambda comm: trainer(fit, comm, folder, epochs=2).train())
    first = checkpoint.Checkpoint.open(written.checkpoint)
    assert first.manifest.tables[ITEMS].spread == 1

    def take_up_and_write(comm: Comm) -> tuple[Tensor, float | None]:
        resumed = trainer(fit, comm, folder)
        assert resumed.progress.step == first.manifest.facts.step
        metric = resumed.task.validate(resumed.embeddings, comm)
        table = resumed.embeddings.table(ITEMS)
        resumed.keeper.begin(resumed.progress)
        resumed.keeper.finish()
        return table, metric

    for size in (2, 3, 1):
        for table, metric in run_ranks(size, take_up_and_write):
            assert np.array_equal(table.numpy(), first.table(ITEMS))
            assert metric == pytest.approx(written.validation[-1], abs=1e-12)
        newest = checkpoint.newest(folder, fit.key)
        assert newest is not None
        assert newest.manifest.tables[ITEMS].spread == size
        for array in ("weight", "mean", "square"):
            assert np.array_equal(newest.table(ITEMS, array), first.table(ITEMS, array))
        dense, expected = newest.dense(), first.dense()
        assert dense.keys() == expected.keys()
        assert all(np.array_equal(dense[name], expected[name]) for name in dense)


@pytest.mark.parametrize("sizes", [(1, 2), (2, 3, 1)])
def test_an_epoch_begun_on_some_ranks_is_ended_on_others(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """Every example is trained on once: the steps' examples add up, and no id comes twice."""
    training = tiny_training(**no_dropout(max_epochs=1, checkpoint_steps=2))
    spec = world_spec(tmp_path, training=training)
    fit, folder = spec.fits[0], spec.checkpoint_folder(spec.fits[0])
    seen: list[int] = []

    class Stopped(Exception):
        pass

    def some_steps(comm: Comm, *, steps: int) -> None:
        made, done = trainer(fit, comm, folder), 0
        train_step = made._train_step

        def counted(batch):  # type: ignore[no-untyped-def]
            nonlocal done
            found = train_step(batch)
            done += 1
            seen.extend(batch.example_id_B.tolist())
            return found

        made._train_step = counted  # type: ignore[method-assign]
        between = made.keeper.between_steps

        def stop_after(progress):  # type: ignore[no-untyped-def]
            between(progress)
            if done == steps:
                made.keeper.finish()
                raise Stopped

        made.keeper.between_steps = stop_after  # type: ignore[method-assign]
        made.train()

    for size in sizes[:-1]:
        with pytest.raises(Stopped):
            run_ranks(size, lambda comm: some_steps(comm, steps=2))
    run_ranks(sizes[-1], lambda comm: some_steps(comm, steps=-1))
    assert sorted(seen) == list(range(200))


def test_the_best_epoch_that_is_written_stays_until_a_better_one_is(tmp_path: Path) -> None:
    """A better epoch may be validated, the run killed before its checkpoint is whole, and never come again."""
    fit = world_spec(tmp_path).fits[0]
    folder = tmp_path / "checkpoints"
    [made] = run_ranks(1, lambda comm: trainer(fit, comm, folder))
    values = (0.5, 0.1, 0.2, 0.3)
    for epoch in range(1, len(values) + 1):
        made.keeper.begin(Progress(epoch=epoch, step=epoch, validation=values[:epoch]))
    made.keeper.begin(
        Progress(epoch=5, step=5, validation=(*values, 0.9))
    )  # in flight: killed here
    newest = checkpoint.newest(folder, fit.key)
    assert newest is not None
    assert newest.manifest.facts.epoch == 4
    assert checkpoint.of_epoch(folder, 1) is not None
    made.keeper.finish()
    assert checkpoint.of_epoch(folder, 1) is None


def test_two_ranks_share_the_examples_and_agree_on_everything(tmp_path: Path) -> None:
    spec = world_spec(tmp_path, training=tiny_training(**no_dropout())).model_copy(
        update={"world_size": 2}
    )
    one, other = run_ranks(2, lambda comm: run_rank(spec, comm))
    assert [r.validation for r in one] == [r.validation for r in other]
    assert [r.checkpoint for r in one] == [r.checkpoint for r in other]
    assert one[0].num_examples == 200
    assert trained_weights(one[0].checkpoint)["items.weight"].shape == (NUM_ITEMS + 1, 16)


def test_a_problem_of_one_rank_is_an_error_on_all(tmp_path: Path) -> None:
    """An item number that one rank alone reads."""
    numbers = cyclic_histories(32)
    numbers[20, 3] = NUM_ITEMS + 7  # in the second row group: the last rank's
    foreign = write_file(tmp_path / "foreign.parquet", numbers)
    fit = world_spec(tmp_path).fits[0].model_copy(update={"files": (foreign,)})

    def of_rank(comm: Comm) -> str:
        with pytest.raises(ContractError) as caught:
            trainer(fit, comm, tmp_path / "checkpoints").train()
        return str(caught.value)

    for size in (1, 2):
        said = run_ranks(size, of_rank)
        assert len(set(said)) == 1
        assert f"rank {size - 1}: " in said[0]
        assert f"item number {NUM_ITEMS + 7}" in said[0]


def test_a_gradient_that_is_no_number_names_table_rank_and_row_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = world_spec(tmp_path, training=tiny_training(**no_dropout())).fits[0]

    def of_rank(comm: Comm) -> str:
        made = trainer(fit, comm, tmp_path / "checkpoints")
        loss = made.task.loss

        def with_a_bad_gradient(asked, vectors):  # type: ignore[no-untyped-def]
            if comm.rank == 1:
                vectors[ITEMS].register_hook(lambda grad: torch.full_like(grad, float("nan")))
            return loss(asked, vectors)

        made.task.loss = with_a_bad_gradient  # type: ignore[method-assign]
        with pytest.raises(Refused) as caught:
            made.train()
        return str(caught.value)

    said = run_ranks(2, of_rank)
    assert len(set(said)) == 1
    assert "rank 1: gradient of table 'items', id" in said[0]
