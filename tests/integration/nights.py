"""A small generated shop and how its nights are run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config import RecsysConfig, load_config

if TYPE_CHECKING:
    from recsys.lake import Lake

FIRST_DAY = date(2024, 1, 1)
DAYS = 71
NIGHT = FIRST_DAY + timedelta(days=DAYS - 1)
"""The run date of the first night: the last generated day is day 2's news."""

TINY = (
    "generate_shop.users=300",
    "generate_shop.items=80",
    "generate_shop.events=24000",
    f"generate_shop.first_day={FIRST_DAY}",
    f"generate_shop.days={DAYS}",
    "generate_shop.item_groups=8",
    "evaluation.window_days=14",
    "evaluation.bootstrap_rounds=200",
    "training.max_epochs=3",
    "training.embedding_dim=16",
    "training.num_heads=1",
    "training.num_negatives=64",
    "training.global_batch_size=64",
    "training_set.max_length=30",
    "training_set.row_group_rows=64",
    "scoring.n=20",
    "ingest.volume.smallest_median=100000",
)
"""A shop that a night takes a minute for. Volumes are judged in the tests of ingest."""


@dataclass(frozen=True)
class Shop:
    """A generated shop and the lake of its nights."""

    lake: Lake
    overrides: tuple[str, ...]
    planted: dict[str, Any]

    def config(self, *more: str) -> RecsysConfig:
        return load_config("generated_shop", [*self.overrides, *more])

    def night(
        self, run_date: date, *more: str, steps: tuple[str, ...] | None = None
    ) -> RecsysConfig:
        """Run the pipeline of one night; returns the configuration it ran with."""
        from recsys.runner.pipeline import STEPS, run_steps

        config = self.config(*more)
        run_steps(self.lake, config, run_date, steps or STEPS)
        return config


def generate(root: Path, *more: str) -> tuple[str, ...]:
    """The overrides under which a tiny shop lives in ``root``."""
    return (*TINY, f"paths.root={root / 'var'}", f"generate_shop.directory={root / 'shop'}", *more)
