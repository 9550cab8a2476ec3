"""Training on several ranks: any number of them takes up what another number wrote, and one's problem is all's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.data import EpochPosition, Leg
from recsys.embeddings import Comm, LocalComm
from recsys.errors import ContractError, Refused
from recsys.training import checkpoint
from recsys.training.keeper import Progress
from recsys.training.loop import Trainer
from recsys.training.model_folder import trained_weights
from recsys.training.sequential import ITEMS, SequentialTask
from recsys.training.spec import Fit
from recsys.training.worker import run_rank
from tests.embeddings.gathered import gathered
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
        metric = resumed.task.validate(resumed.embeddings, comm, lambda: None)
        table = gathered(resumed.embeddings, ITEMS)
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
    assert checkpoint.Search(folder, fit.key, LocalComm()).end_of(1, values) is not None
    made.keeper.finish()
    assert checkpoint.Search(folder, fit.key, LocalComm()).end_of(1, values) is None


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


def test_every_example_of_a_step_counts_the_same_whatever_its_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty examples on one rank and one on the other are one process's batch of 21: gradients and loss."""
    monkeypatch.setattr("recsys.embeddings.plan.REPLICATED_BELOW_BYTES", 0)
    numbers = cyclic_histories(21)
    files = (
        write_file(tmp_path / "a.parquet", numbers[:20], row_group_rows=20),
        write_file(tmp_path / "b.parquet", numbers[20:], first_id=20),
    )
    # All items are negatives, and nothing is clipped: no step is like another by chance or by a limit.
    training = tiny_training(
        **no_dropout(global_batch_size=60, num_negatives=NUM_ITEMS, max_gradient_norm=1e9)
    )
    fit = world_spec(tmp_path, training=training).fits[0].model_copy(update={"files": files})

    def after_a_step(comm: Comm) -> tuple[list[int], float, list[Tensor], dict[str, Tensor]]:
        made = trainer(fit, comm, tmp_path / f"checkpoints of {comm.size}")
        made.progress.position = made._place()
        [batch] = made.loader.batches(made.progress.position)
        loss, _ = made._train_step(batch)
        dense = [p.grad for p in made.task.dense.parameters() if p.grad is not None]
        # Adam's mean after one step is a tenth of the gradient.
        return made.shares, loss, dense, made.embeddings.state()[ITEMS]

    [(shares, loss, dense, rows)] = run_ranks(1, after_a_step)
    assert shares == [21]
    of_ranks = run_ranks(2, after_a_step)
    for rank, (shares, rank_loss, rank_dense, rank_rows) in enumerate(of_ranks):
        assert shares == [20, 1]
        assert rank_loss == pytest.approx(loss, rel=1e-5)
        for mine, expected in zip(rank_dense, dense, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rank_rows["mean"], rows["mean"][rank::2], rtol=1e-4, atol=1e-7)


def test_a_rank_whose_batch_is_empty_makes_no_step_smaller(tmp_path: Path) -> None:
    fit = world_spec(tmp_path, training=tiny_training(**no_dropout())).fits[0]

    def of_rank(comm: Comm) -> list[float]:
        made = trainer(fit, comm, tmp_path / "checkpoints")
        made.shares = [7, 1]
        leg = Leg(world_size=2, steps=4)
        weights = []
        for done in range(4):
            at = leg.model_copy(update={"done": done})
            made.progress.position = EpochPosition(epoch=1, legs=(at,))
            weights.append(made._weight())
        return weights

    one, other = run_ranks(2, of_rank)
    # Batches of 2, 2, 2, 1 examples and of 1, 0, 0, 0; the mean of the ranks is that of the examples.
    assert one == pytest.approx([4 / 3, 2.0, 2.0, 2.0])
    assert other == pytest.approx([2 / 3, 0.0, 0.0, 0.0])


def test_a_checkpoint_of_another_architecture_is_refused_and_not_tried_again(
    tmp_path: Path,
) -> None:
    """A change of the code: the fit's settings, and so its key, are the same."""
    fit = world_spec(tmp_path).fits[0].model_copy(update={"code_version": "a1b2c3"})
    [made] = run_ranks(1, lambda comm: trainer(fit, comm, tmp_path / "checkpoints"))
    made.keeper.begin(Progress(epoch=1, step=7))
    made.keeper.finish()

    def taken_up(**changes: object) -> str:
        changed = fit.training.model_copy(update=changes)
        other = SequentialTask(fit.model_copy(update={"training": changed}))

        def of_rank(comm: Comm) -> None:
            Trainer(
                fit, other, comm, folder=tmp_path / "checkpoints", epochs=1,
                report=lambda **facts: None, beat=lambda step, doing: None,
            )  # fmt: skip

        with pytest.raises(ContractError) as caught:  # a kind of error: launch starts nothing again
            run_ranks(1, of_rank)
        return str(caught.value)

    more_layers = taken_up(num_blocks=2)
    assert "epoch-001-step-000000-0, written by the code of a1b2c3, does not fit" in more_layers
    assert "Missing key" in more_layers
    assert f"or remove {tmp_path / 'checkpoints'} and train anew" in more_layers


def test_rows_that_are_no_numbers_are_named_with_their_table_and_who_asked(tmp_path: Path) -> None:
    fit = world_spec(tmp_path, training=tiny_training(**no_dropout())).fits[0]

    def of_rank(comm: Comm) -> str:
        made = trainer(fit, comm, tmp_path / "checkpoints")
        made.embeddings.state()[ITEMS]["weight"][1:] = float("nan")
        with pytest.raises(Refused) as caught:
            made.train()
        return str(caught.value)

    said = run_ranks(2, of_rank)
    assert len(set(said)) == 1
    for rank in (0, 1):
        assert f"rows of table 'items' that rank {rank} asked for" in said[0]
