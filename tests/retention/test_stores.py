"""What goes of the folders beside the tables."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.records import Answers, TrainingRecord, write_atomically
from recsys.retention.holds import Holds
from recsys.retention.stores import old_models

NIGHT = date(2024, 6, 1)


def test_what_models_said_of_a_night_goes_with_the_record_of_the_night(tmp_path: Path) -> None:
    config = RecsysConfig(paths=PathsConfig(root=str(tmp_path)))
    old = NIGHT - timedelta(days=config.retention.record_days + 1)
    for night in (old, NIGHT):
        for role in ("measuring", "linear"):
            write_atomically(config.paths.models / Answers.name_of(night, role), b"said")
        TrainingRecord(run_date=night, trained=True, reason="due").write(config.paths)
    held = Holds(reference=NIGHT, releases=(), running=(), first_day=NIGHT)

    gone = {path.name for path in old_models(config, held, datetime(2024, 6, 1, tzinfo=UTC))}

    assert gone == {
        f"trained-{old}.json", f"answers-{old}-measuring.npz", f"answers-{old}-linear.npz",
    }  # fmt: skip
