"""A small generated shop and how its nights are run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config import RecsysConfig, load_config
from recsys.config.places import PathsConfig

if TYPE_CHECKING:
    from recsys.lake import Lake

CHECKOUT = Path(__file__).parents[2]
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
    "tuning.when=never",
)
"""A shop that a night takes a minute for. Volumes are judged in the tests of ingest, searches in those of tune."""


@dataclass(frozen=True)
class Shop:
    """A generated shop and the lake of its nights."""

    lake: Lake
    overrides: tuple[str, ...]
    planted: dict[str, Any]

    def config(self, *more: str) -> RecsysConfig:
        return load_config("generated_shop", [*self.overrides, *more])

    def copied_to(self, root: Path) -> Shop:
        """The same shop with a lake of its own, as it is now."""
        from recsys.lake import Lake

        shutil.copytree(self.config().paths.root, root)
        overrides = (*self.overrides, f"paths.root={root}")
        paths = load_config("generated_shop", overrides).paths
        return Shop(Lake(self.lake.spark, paths), overrides, self.planted)

    def night(
        self, run_date: date, *more: str, steps: tuple[str, ...] | None = None
    ) -> RecsysConfig:
        """Run the pipeline of one night; returns the configuration it ran with."""
        from recsys.runner.pipeline import STEPS, run_steps

        config = self.config(*more)
        run_steps(self.lake, config, run_date, steps or STEPS)
        return config


def submitted(shop: Shop, run_date: date, *options: str) -> list[str]:
    """The command of a night as a scheduler gives it."""
    set_ = [word for override in shop.overrides for word in ("--set", override)]
    submit = [str(CHECKOUT / "spark-submit.sh"), "run_pipeline", "--env", "generated_shop"]
    return [*submit, "--run-date", str(run_date), *options, *set_]


def without_network(command: list[str]) -> list[str]:
    """``command`` with loopback alone: what wants to download fails at once, it does not wait.

    It does not begin where there is a route out all the same.
    """
    alone = 'ip link set lo up && ! ip route get 192.0.2.1 2>/dev/null && exec "$@"'
    return ["unshare", "--map-root-user", "--net", "bash", "-c", alone, "alone", *command]


def ask(paths: PathsConfig, sql: str) -> list[Any]:
    """SQL over a shop's tables, in DuckDB."""
    from recsys.sql.duck import open_lake

    with open_lake(paths) as lake:
        return [tuple(row) for row in lake.query(sql)[1]]


def generate(root: Path, *more: str) -> tuple[str, ...]:
    """The overrides under which a tiny shop lives in ``root``."""
    return (*TINY, f"paths.root={root / 'var'}", f"generate_shop.directory={root / 'shop'}", *more)
