"""A till's daily files, described and delivered by a test."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import IngestConfig, VolumeConfig

FIRST_DAY = date(2024, 1, 1)  # a Monday
DAYS = 21
RUN_DATE = FIRST_DAY + timedelta(days=DAYS)  # judges Sunday, 21 January, by two Sundays before
LAST_FILE = "2024-01-21.csv.gz"
HEADER = "time,slip,customer,article,pieces,price,town,name"

DESCRIPTION: dict[str, Any] = {
    "kind": "events",
    "time_zone": "Europe/London",
    "timestamp_formats": ["yyyy-MM-dd HH:mm:ss", "dd/MM/yyyy HH:mm"],
    "raw_columns": {
        "time": "timestamp", "slip": "string", "customer": "string", "article": "string",
        "pieces": "decimal(18,3)", "price": "decimal(18,4)", "town": "string", "name": "string",
    },
    "columns": {
        "event_ts": "time", "user_id": "customer", "item_id": "article", "quantity": "pieces",
        "unit_price": "price", "session_id": "slip",
    },
    "segment": "town",
    "attributes": {"slip_kind": {"sql": "substr(slip, 1, 1)"}},
    "event_type": [{"type": "return", "when": {"column": "slip", "matches": "^R"}}, {"type": "purchase"}],
    "quantity_sign": "returns_negative",
    "items": {"title": "name", "price": "price"},
    "rules": [
        {"reason": "price_negative", "column": "price", "at_least": 0},
        {"reason": "no_article", "column": "article", "not_null": True},
        {"reason": "carrier_bag", "column": "article", "none_of": ["bag"]},
    ],
}  # fmt: skip


def line(day: date, number: int, **change: str) -> str:
    """One sound line, unless ``change`` says otherwise."""
    town = "Leeds" if number % 3 else "York"
    values = {
        "time": f"{day} 10:{number % 60:02}:00", "slip": f"S{day:%m%d}{number}", "customer": f"c{number % 7}",
        "article": f"a{number % 5}", "pieces": "2", "price": "1.50", "town": town, "name": f"Mug {number % 5}",
    }  # fmt: skip
    return ",".join((values | change).values())


@dataclass
class Till:
    """A folder of daily files, its description, and a configuration that reads it."""

    root: Path
    config: RecsysConfig
    files: Path = field(init=False)

    def __post_init__(self) -> None:
        self.files = self.root / "raw"
        self.files.mkdir(parents=True, exist_ok=True)
        for layer in ("base", "local"):
            (self.conf / layer / "sources").mkdir(parents=True, exist_ok=True)
        self.describe()

    @property
    def conf(self) -> Path:
        return self.root / "conf"

    def describe(self, pattern: str = "*.csv.gz", source: str = "till", **change: Any) -> None:
        place = {} if "table" in change else {"pattern": f"{self.files}/{pattern}"}
        content = DESCRIPTION | place | change
        (self.conf / "base" / "sources" / f"{source}.yml").write_text(
            yaml.safe_dump(content, sort_keys=False)
        )

    def deliver(self, name: str, lines: Iterable[str], header: str = HEADER) -> None:
        text = "\n".join([header, *lines]) + "\n"
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # mtime: the same rows are the same bytes
        path.write_bytes(gzip.compress(text.encode(), mtime=0))

    def deliver_days(self, rows_per_day: int = 12) -> None:
        for number in range(DAYS):
            day = FIRST_DAY + timedelta(days=number)
            self.deliver(f"{day}.csv.gz", [line(day, n) for n in range(rows_per_day)])

    def with_ingest(self, **change: Any) -> RecsysConfig:
        return self.config.model_copy(
            update={"ingest": self.config.ingest.model_copy(update=change)}
        )


def till(root: Path, config: RecsysConfig) -> Till:
    settings = IngestConfig(sources=("till",), volume=VolumeConfig(smallest_median=4, min_weeks=2))
    shop = config.shop.model_copy(update={"time_zone": "Europe/London"})
    lake = PathsConfig(root=str(root / "var"))
    return Till(root, config.model_copy(update={"ingest": settings, "shop": shop, "paths": lake}))
