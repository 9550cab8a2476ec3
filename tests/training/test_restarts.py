"""A rank that dies or stops answering ends the run; the run starts again and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from recsys.embeddings import LocalComm
from recsys.training import checkpoint
from recsys.training import launch as launch_module
from recsys.training.launch import OUTPUT, TrainingFailed, launch
from recsys.training.spec import TrainingSpec
from recsys.training.worker import PROGRESS, run_rank
from tests.training.worlds import hashes, tiny_training, world_spec

LONG = {"max_epochs": 30, "patience": 30, "checkpoint_steps": 3, "launcher": "horovodrun"}
NUM_ITEMS = 20_000
"""Their table is 1.3 MB and so spread over the ranks: each writes its rows."""
FAILPOINTS = (
    "checkpoint:folder_made", "checkpoint:written dense.npz", "checkpoint:written items.weight.0-of-2.npy",
    "checkpoint:written items.weight.1-of-2.npy", "checkpoint:written items.mean.1-of-2.npy",
    "checkpoint:block_written", "checkpoint:before_manifest", "checkpoint:after_manifest",
    "train:checkpoint_written",
)  # fmt: skip


def with_a_large_table(spec: TrainingSpec) -> TrainingSpec:
    fits = [fit.model_copy(update={"num_items": NUM_ITEMS}) for fit in spec.fits]
    return spec.model_copy(update={"fits": tuple(fits)})


def steps_reported(spec: TrainingSpec) -> int:
    path = spec.work / PROGRESS
    return path.read_text().count('"event": "step"') if path.exists() else 0


def ranks() -> list[psutil.Process]:
    """This test's training processes, by rank."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if "recsys.training.worker" in process.cmdline():
                found[process.environ().get("HOROVOD_RANK", "")] = process
        except psutil.Error:
            continue
    return [found[rank] for rank in sorted(found) if rank]


@contextmanager
def when_training(spec: TrainingSpec, do: Callable[[], None], *, more_steps: int) -> Iterator[None]:
    """Run ``do`` once, ``more_steps`` steps after what is reported now; the body trains meanwhile."""
    wanted, ended, errors = steps_reported(spec) + more_steps, threading.Event(), []

    def watch() -> None:
        while not ended.wait(0.01):
            if steps_reported(spec) >= wanted:
                try:
                    do()
                except Exception as error:
                    errors.append(error)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        assert not errors, errors


@pytest.mark.horovod
def test_a_rank_that_stops_answering_is_named_and_the_run_goes_on_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    training = tiny_training(**{**LONG, "max_epochs": 5}, stall_timeout_seconds=5, restarts=1)
    spec = world_spec(tmp_path, training=training, name="disturbed")
    stopped: list[int] = []

    def stop_rank_1() -> None:
        process = ranks()[1]
        process.suspend()
        stopped.append(process.pid)

    with capture_logs() as logs, when_training(spec, stop_rank_1, more_steps=10):
        results = launch(spec, training, None)
    assert len(stopped) == 1
    assert not psutil.pid_exists(stopped[0])
    [restarted] = [entry for entry in logs if entry["event"] == "training_restarted"]
    assert "rank 1 has stopped answering for 5 s, last at step" in restarted["reason"]
    resumed = [json.loads(line) for line in (spec.work / PROGRESS).read_text().splitlines()]
    assert [fact["step"] > 0 for fact in resumed if fact["event"] == "resumed"][:1] == [True]
    undisturbed = world_spec(tmp_path, training=training, name="undisturbed")
    assert hashes(results) == hashes(launch(undisturbed, training, None))


def test_a_run_that_always_dies_is_given_up_after_the_restarts_that_conf_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(launcher="local", restarts=2)
    spec = world_spec(tmp_path, training=training)
    monkeypatch.setenv("RECSYS_FAILPOINT", "checkpoint:folder_made")
    with (
        capture_logs() as logs,
        pytest.raises(TrainingFailed, match="continues from the last checkpoint"),
    ):
        launch(spec, training, None)
    said = (spec.work / OUTPUT).read_text()
    assert said.count("failpoint checkpoint:folder_made: killing process") == 3
    assert [e["restart"] for e in logs if e["event"] == "training_restarted"] == [1, 2]


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills_and_thirty_resumes_end_with_equal_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other kill is of a random rank at a random moment, the others at the boundaries of saving."""
    training = tiny_training(**LONG, restarts=0)
    spec = with_a_large_table(world_spec(tmp_path, training=training, name="disturbed"))
    choose = random.Random(17)
    resumed_at: list[int] = []

    def kill_a_rank() -> None:
        os.kill(choose.choice(ranks()).pid, signal.SIGKILL)

    for kill in range(30):
        if kill % 2:
            monkeypatch.setenv("RECSYS_FAILPOINT", FAILPOINTS[kill // 2 % len(FAILPOINTS)])
            with pytest.raises(TrainingFailed):
                launch(spec, training, None)
            assert "failpoint" in (spec.work / OUTPUT).read_text()
        else:
            monkeypatch.delenv("RECSYS_FAILPOINT", raising=False)
            moment = when_training(spec, kill_a_rank, more_steps=choose.randint(1, 12))
            with moment, pytest.raises(TrainingFailed):
                launch(spec, training, None)
        (spec.work / OUTPUT).unlink()
        found = checkpoint.newest(spec.checkpoint_folder(spec.fits[0]), spec.fits[0].key)
        assert kill == 0 or found is not None
        resumed_at.append(found.manifest.facts.step if found else 0)
        if found is not None:
            assert found.manifest.tables["items"].spread == 2
    assert resumed_at == sorted(resumed_at)
    monkeypatch.delenv("RECSYS_FAILPOINT", raising=False)
    finished = launch(spec, training, None)
    alone = with_a_large_table(world_spec(tmp_path, training=training, name="undisturbed"))
    undisturbed = launch(alone, training, None)
    assert hashes(finished) == hashes(undisturbed)
    assert [r.validation for r in finished] == [r.validation for r in undisturbed]


@pytest.mark.horovod
def test_processes_of_torch_distributed_are_restarted_as_those_of_horovod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(**{**LONG, "launcher": "torch", "max_epochs": 5}, restarts=1)
    spec = world_spec(tmp_path, training=training, name="disturbed")
    monkeypatch.setenv("RECSYS_FAILPOINT", "train:step 10 of rank 1")
    launch_once = launch_module._launch_once

    def the_first_is_killed(*given: Any) -> None:
        try:
            launch_once(*given)
        finally:
            monkeypatch.delenv("RECSYS_FAILPOINT", raising=False)

    monkeypatch.setattr(launch_module, "_launch_once", the_first_is_killed)
    with capture_logs() as logs:
        results = launch(spec, training, None)
    assert "failpoint train:step 10 of rank 1: killing" in (spec.work / OUTPUT).read_text()
    [restarted] = [entry for entry in logs if entry["event"] == "training_restarted"]
    assert restarted["restart"] == 1
    assert "rank 1 left no word, last at step " in restarted["reason"]
    undisturbed = world_spec(tmp_path, training=training, name="undisturbed")
    assert hashes(results) == hashes(launch(undisturbed, training, None))


def test_a_run_killed_within_an_epoch_goes_on_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(launcher="local", restarts=0, checkpoint_steps=3)
    spec = world_spec(tmp_path, training=training, name="disturbed")
    monkeypatch.setenv("RECSYS_FAILPOINT", "train:checkpoint_written")
    with pytest.raises(TrainingFailed):
        launch(spec, training, None)
    monkeypatch.delenv("RECSYS_FAILPOINT")
    found = checkpoint.newest(spec.checkpoint_folder(spec.fits[0]), spec.fits[0].key)
    assert found is not None
    assert (found.manifest.facts.step, found.manifest.facts.epoch_step) == (3, 3)
    resumed = launch(spec, training, None)
    undisturbed = run_rank(world_spec(tmp_path, training=training, name="whole"), LocalComm())
    assert hashes(resumed) == hashes(undisturbed)
