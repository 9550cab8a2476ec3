"""Processes: what a killed run comes to, what a failing one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.config.sections import TrainingConfig
from recsys.errors import ConfigError, ContractError
from recsys.training.launch import OUTPUT, TrainingFailed, interface_address, launch
from recsys.training.model_folder import trained_weights, weights_hash
from recsys.training.spec import FitResult, TrainingSpec
from tests.training.worlds import hashes, tiny_training, world_spec


def last_hashes(results: list[FitResult]) -> list[str]:
    """Of the newest epoch of each fit: the best one may lie before the kill."""
    newest = [max(r.checkpoint.parent.glob("epoch-*")) for r in results]
    return [weights_hash(trained_weights(path)) for path in newest]


def checkpoints(spec: TrainingSpec) -> list[str]:
    """fit/epoch of every finished checkpoint."""
    found = spec.checkpoints.glob("*/epoch-*/manifest.json")
    return sorted(f"{path.parts[-3].split('-')[3]}/{path.parts[-2][:9]}" for path in found)


def killed_and_undisturbed(
    tmp_path: Path, training: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed = world_spec(tmp_path, training=training, name="disturbed")
    monkeypatch.setenv("RECSYS_FAILPOINT", "train:checkpoint_written")
    with pytest.raises(TrainingFailed, match="continues from the last checkpoint") as failed:
        launch(disturbed, training, None)
    assert "rank 0 left no word, last at step " in str(failed.value)
    # The kill landed: said by the process that died, after its first checkpoint and before its second.
    assert (
        "failpoint train:checkpoint_written: killing process"
        in (disturbed.work / OUTPUT).read_text()
    )
    assert checkpoints(disturbed) == ["choosing/epoch-001"]

    monkeypatch.delenv("RECSYS_FAILPOINT")
    resumed = launch(disturbed, training, None)
    assert '"event": "resumed", "epoch": 1' in (disturbed.work / "progress.jsonl").read_text()
    undisturbed = launch(
        world_spec(tmp_path, training=training, name="undisturbed"), training, None
    )
    assert hashes(resumed) == hashes(undisturbed)
    assert last_hashes(resumed) == last_hashes(undisturbed)
    assert resumed[0].validation == undisturbed[0].validation


def test_one_process_killed_after_its_first_checkpoint_ends_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_and_undisturbed(tmp_path, tiny_training(launcher="local", restarts=0), monkeypatch)


@pytest.mark.horovod
def test_two_ranks_one_killed_after_its_first_checkpoint_end_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_and_undisturbed(tmp_path, tiny_training(launcher="horovodrun", restarts=0), monkeypatch)


def test_the_error_of_a_process_reaches_the_caller_with_its_kind(tmp_path: Path) -> None:
    training = tiny_training(launcher="local")
    spec = world_spec(tmp_path, training=training)
    (tmp_path / "examples" / "part-0.parquet").unlink()
    with pytest.raises(ContractError, match=r"rank 0: training file .*part-0\.parquet is missing"):
        launch(spec, training, None)


def test_an_interface_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert interface_address("lo") == "127.0.0.1"
    with pytest.raises(
        ConfigError, match=r"network_interface='ib7' has no IPv4 address here.*\blo\b"
    ):
        interface_address("ib7")
