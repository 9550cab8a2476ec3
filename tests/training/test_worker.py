"""What a rank does with a trained model, and when."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.embeddings import LocalComm
from recsys.training import worker
from recsys.training.checkpoint import Checkpoint
from recsys.training.ranking import RankingTask
from recsys.training.worker import run_rank
from tests.training.ranking.test_ranking_fit import ranking_spec


def test_the_weights_that_answer_are_those_of_the_best_epoch_as_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validations = itertools.cycle([0.6, 0.9, 0.8])
    monkeypatch.setattr(RankingTask, "validate", lambda *given: next(validations))
    answered: list[dict[str, Any]] = []

    def take_note(fit: Any, task: Any, embeddings: Any, *others: Any, **more: Any) -> None:
        tables = {
            name: arrays["weight"].numpy().copy() for name, arrays in embeddings.state().items()
        }
        dense = {f"model.{n}": v.numpy().copy() for n, v in task.dense.state_dict().items()}
        answered.append({**tables, **dense})

    monkeypatch.setattr(worker, "answer_users", take_note)
    [result] = run_rank(ranking_spec(tmp_path), LocalComm())
    assert result.best_epoch == 2
    best = Checkpoint.open(result.checkpoint)
    [found] = answered
    for name in best.manifest.tables:
        np.testing.assert_array_equal(found[name], best.table(name))
    for name, values in best.dense().items():
        if name.startswith("model."):
            np.testing.assert_array_equal(found[name], values)
