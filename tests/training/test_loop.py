"""One process trains: it learns what was planted, the same every time, and stops on nonsense."""

from __future__ import annotations

import collections
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from recsys.config.sections import TrainingConfig
from recsys.data import Batch
from recsys.embeddings import LocalComm, ShardedEmbeddings
from recsys.errors import Refused
from recsys.training import validation
from recsys.training.keeper import Progress
from recsys.training.loop import Trainer
from recsys.training.sequential import ITEMS, SequentialTask
from recsys.training.spec import TrainingSpec
from recsys.training.worker import PROGRESS, run_rank
from tests.training.checkpoint.test_damage import flip_a_bit
from tests.training.worlds import cyclic_histories, hashes, tiny_training, world_spec


def reported(spec: TrainingSpec, event: str) -> list[dict[str, Any]]:
    lines = (spec.work / PROGRESS).read_text().splitlines()
    return [fact for fact in map(json.loads, lines) if fact["event"] == event]


def test_it_learns_the_cycle_of_groups(tmp_path: Path) -> None:
    """5 of 30 items are right and nothing tells them apart: the best possible NDCG@10 is 0.59, chance 0.15."""
    training = tiny_training(max_epochs=20, patience=20)
    choosing, release = run_rank(
        world_spec(tmp_path, training=training, num_users=400), LocalComm()
    )
    assert max(choosing.validation) > 0.5
    assert choosing.best_epoch == 1 + choosing.validation.index(max(choosing.validation))
    assert release.best_epoch == choosing.best_epoch
    assert release.validation == ()


def test_equal_input_gives_equal_weights_and_a_seed_changes_them(tmp_path: Path) -> None:
    first, again, other = (
        hashes(run_rank(world_spec(tmp_path / name, training=training), LocalComm()))
        for name, training in (
            ("first", tiny_training()),
            ("again", tiny_training()),
            ("other", tiny_training(seed=18)),
        )
    )
    assert first == again
    assert first["choosing"] != other["choosing"]


def test_a_finished_run_is_taken_up_and_trains_no_more(tmp_path: Path) -> None:
    spec = world_spec(tmp_path)
    first = run_rank(spec, LocalComm())
    steps = len(reported(spec, "step"))
    again = run_rank(spec, LocalComm())
    assert hashes(again) == hashes(first)
    assert [r.validation for r in again] == [r.validation for r in first]
    assert len(reported(spec, "step")) == steps > 0
    assert [r.num_examples for r in again] == [r.num_examples for r in first] == [200, 200]


def test_a_best_epoch_that_was_damaged_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs after it are whole, and must not be gone on from: the fit would be done, without its model."""
    validations = itertools.cycle([0.2, 0.5, 0.4, 0.3])
    monkeypatch.setattr(SequentialTask, "validate", lambda *given: next(validations))
    spec = world_spec(tmp_path, training=tiny_training(max_epochs=4, patience=4))
    spec = spec.model_copy(update={"fits": spec.fits[:1]})
    [first] = run_rank(spec, LocalComm())
    assert first.best_epoch == 2
    expected = hashes([first])
    flip_a_bit(first.checkpoint / "items.weight.0-of-1.npy")
    with capture_logs() as logs:
        [again] = run_rank(spec, LocalComm())
    assert hashes([again]) == expected
    assert again.validation == first.validation
    said = [line["reason"] for line in logs if line["event"] == "checkpoint_passed_over"]
    assert any(
        "cannot be finished: the end of epoch 2, its best, is gone or damaged" in one
        for one in said
    )


def test_training_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    training = tiny_training(max_epochs=50, patience=2, learning_rate=1e-12)
    choosing, _ = run_rank(world_spec(tmp_path, training=training), LocalComm())
    assert len(choosing.validation) == 3  # nothing moves: the first epoch stays the best
    assert choosing.best_epoch == 1


def test_the_earliest_of_equally_good_epochs_is_the_best() -> None:
    assert Progress(epoch=4, step=9, validation=(0.1, 0.3, 0.3, 0.2)).best_epoch == 2
    assert Progress(epoch=4, step=9).best_epoch == 4


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_checkpoints(
    tmp_path: Path,
) -> None:
    exploding: TrainingConfig = tiny_training(learning_rate=1e30)
    spec = world_spec(tmp_path, training=exploding)
    with pytest.raises(
        Refused,
        match=r"training choosing stopped, not finite: loss nan on rank 0; rank 0: gradient of table 'items', "
        r"id \d+ is not finite; gradient norm nan, at step \d+, epoch 1",
    ):
        run_rank(spec, LocalComm())
    assert not list(spec.checkpoint_folder(spec.fits[0]).glob("epoch-*/manifest.json"))


def test_every_step_is_reported_with_its_loss(tmp_path: Path) -> None:
    spec = world_spec(tmp_path)
    run_rank(spec, LocalComm())
    steps = [fact["step"] for fact in reported(spec, "step") if fact["fit"] == "choosing"]
    started = [fact for fact in reported(spec, "epoch_started") if fact["fit"] == "choosing"]
    assert [fact["steps"] for fact in started] == [7] * 3  # 200 examples in batches of 32
    assert steps == list(range(1, 3 * 7 + 1))


@pytest.mark.parametrize("num_rows", [0, 3])
def test_a_batch_that_predicts_nothing_still_has_every_gradient(
    tmp_path: Path, num_rows: int
) -> None:
    """A rank that sent no gradient would keep the others waiting for it."""
    fit = world_spec(tmp_path).fits[0]
    task = SequentialTask(fit)
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=1)
    before = embeddings.state()[ITEMS]["weight"].clone()
    nums = torch.from_numpy(cyclic_histories(num_rows)).long()
    nothing = torch.zeros(nums.shape).bool()
    batch = Batch(
        torch.arange(num_rows), torch.arange(num_rows), nums, torch.ones(nums.shape), nothing
    )
    asked = task.ask(batch, torch.Generator().manual_seed(1))
    loss = task.loss(asked, embeddings.look_up(asked.ids))
    loss.backward()  # type: ignore[no-untyped-call]
    embeddings.update()
    assert loss.item() == 0
    assert torch.equal(embeddings.state()[ITEMS]["weight"], before)
    assert [n for n, p in task.dense.named_parameters() if p.grad is None or p.grad.any()] == []


def test_it_says_again_and_again_what_goes_on_where_that_may_take_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads of examples, batches of validation, blocks of a checkpoint: else they look like a rank that hangs."""
    monkeypatch.setattr(validation, "USERS_PER_BATCH", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from recsys.data import share_reader  # it imports petastorm
    monkeypatch.setattr(share_reader, "ROWS_PER_READ", 16)
    spec = world_spec(tmp_path, training=tiny_training(max_epochs=1))
    fit, doing = spec.fits[0], collections.Counter[str]()

    def train(epochs: int) -> None:
        Trainer(
            fit, SequentialTask(fit), LocalComm(), folder=tmp_path / "checkpoints", epochs=epochs,
            report=lambda **facts: None, beat=lambda step, what: doing.update([what]),
        ).train()  # fmt: skip

    train(1)
    assert doing["reading examples"] >= 13  # 200 examples in row groups of 16
    assert doing["validating"] >= 5  # 40 users
    doing.clear()
    train(2)
    assert doing["verifying a checkpoint"] >= 4  # three arrays of a table, and the dense ones
    assert doing["reading a checkpoint"] >= 3
