"""What a search says of itself."""

from __future__ import annotations

import math
from pathlib import Path

from recsys.config.tuning import Settings
from recsys.evaluation.tuning import Searched, Trial
from recsys.evaluation.tuning_report import result, trials_table, write_report

TODAY: Settings = {"dropout": 0.2, "learning_rate": 0.005}
BETTER: Settings = {"dropout": 0.2, "learning_rate": 0.0123456789}
FACTS = {
    "epochs": 7,
    "model_ndcg_at_10": 0.21,
    "blend": "model 0.5, similarity 1, transitions 2, repeat 1, popularity 0.01, decay 0.98",
}
AS_IT_IS = Trial(0, TODAY, 0.31, 60.0, FACTS)
FAILED = Trial(1, {"dropout": 0.5, "learning_rate": 0.02}, math.nan, 6.0, {}, failed="loss nan")
BEST = Trial(3, BETTER, 0.33, 90.0, FACTS, again=2)
STOPPED = "the budget of 3 trials is spent (tuning.trials)"


def test_trials_come_by_what_they_reached_the_failed_ones_last() -> None:
    lines = trials_table(Searched((AS_IT_IS, FAILED, BEST), STOPPED), TODAY).splitlines()

    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["3", "0", "1"]
    assert rows[1][:2] == ["0", "(today)"]
    assert "0.33000" in rows[0] and "(trial 2 was killed)" in " ".join(rows[0])
    assert rows[2][-2:] == ["loss", "nan"]


def test_it_ends_with_why_it_stopped_and_how_the_best_is_used() -> None:
    text = trials_table(Searched((AS_IT_IS, FAILED, BEST), STOPPED), TODAY)

    assert text.splitlines()[-3:] == [
        f"stopped: {STOPPED}; 3 trials in 2.6 minutes",
        "best: trial 3, NDCG@10 0.33000 on the choosing window, which chose it",
        "to train with it: --set training.learning_rate=0.0123456789",
    ]


def test_where_nothing_is_better_it_says_so() -> None:
    assert "nothing was better than what is used today, NDCG@10 0.31000" in trials_table(
        Searched((AS_IT_IS, FAILED), STOPPED), TODAY
    )
    assert "no trial came to an end" in trials_table(Searched((FAILED,), STOPPED), TODAY)


def test_programs_are_told_the_best_and_what_was_spent() -> None:
    assert result(Searched((AS_IT_IS, FAILED, BEST), STOPPED)) == {
        "trials": 3, "failed": 1, "minutes": 2.6, "stopped": STOPPED,
        "best": {"trial": 3, "ndcg_at_10": 0.33, "settings": BETTER},
    }  # fmt: skip
    assert result(Searched((), STOPPED))["best"] is None


def test_the_report_is_a_file_of_the_day(tmp_path: Path) -> None:
    path = write_report(Searched((AS_IT_IS,), STOPPED), TODAY, tmp_path / "2024-06-29")

    assert path == tmp_path / "2024-06-29" / "tuning.md"
    assert STOPPED in path.read_text()
