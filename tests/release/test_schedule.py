"""Whether a night trains a new model."""

from __future__ import annotations

import re
from datetime import date

import pytest

from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig
from recsys.release.schedule import training_due
from tests.release.making import make_release

RUN_DATE = date(2024, 6, 8)


@pytest.mark.parametrize(
    ("when", "model_as_of", "due", "reason"),
    [
        ("always", None, True, "always"),
        ("always", date(2024, 6, 7), True, "always"),
        ("never", None, False, "never, and no release is live: no model"),
        ("never", date(2024, 1, 1), False, "model m1 scores on"),
        ("auto", None, True, "no release is live yet"),
        ("auto", date(2024, 6, 1), True, r"7 days old \(training.every_days=7\)"),
        ("auto", date(2024, 6, 2), False, r"6 days old \(training.every_days=7\)"),
        ("auto", RUN_DATE, True, "not before this run date"),  # the same run date again
        ("auto", date(2024, 7, 1), True, "not before this run date"),  # a backfill
    ],
)
def test_training_is_due(
    config: RecsysConfig, when: str, model_as_of: date | None, due: bool, reason: str
) -> None:
    if model_as_of:
        make_release(config.paths, model_as_of=model_as_of)
    config = config.model_copy(update={"training": TrainingConfig.model_validate({"when": when})})

    found = training_due(config, RUN_DATE)

    assert found.due is due
    assert re.search(reason, found.reason)
    cut_offs = (date(2024, 4, 13), date(2024, 5, 11), RUN_DATE) if due else (RUN_DATE,)
    assert found.cut_offs == cut_offs
