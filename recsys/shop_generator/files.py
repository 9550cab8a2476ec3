"""Write a generated shop: a file of events per day, items, users, and the answers in planted.json."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import structlog

from recsys.config.places import CHECKOUT
from recsys.config.sections import GenerateShopConfig
from recsys.errors import ConfigError
from recsys.shop_generator.days import TYPE_NAMES, Events, build_day, join, no_events
from recsys.shop_generator.rows import RowWriter, item_names, user_names
from recsys.shop_generator.world import SEGMENTS, Ints, World, build_world, days_of, is_open

log = structlog.get_logger()

ANSWERS = "planted.json"
_THREADS = 2
_LOG_EVERY_DAYS = 30
_COLOURS = ("Amber", "Blue", "Coral", "Green", "Ivory", "Plum", "Silver", "Teal")
_THINGS = ("Bowl", "Candle", "Clock", "Frame", "Jar", "Lamp", "Mug", "Tray", "Vase")


@dataclass
class Planted:
    """The known answers of a generated shop."""

    raw_rows: int = 0
    accepted_rows: int = 0
    dirty_rows: dict[str, int] = field(default_factory=dict)
    raw_rows_by_file: dict[str, int] = field(default_factory=dict)
    events_by_type: dict[str, int] = field(default_factory=dict)
    repeat_purchases: int = 0
    """Purchases of a favourite that began a visit."""
    preferred_view_share: float = 0.0
    """Views of an item of one of the user's preferred groups."""
    closed_days: list[str] = field(default_factory=list)
    out_of_stock_items: list[str] = field(default_factory=list)
    first_run_date: str = ""
    """The day after the last: everything that was generated lies before it."""


def generate_shop(config: GenerateShopConfig) -> Planted:
    """Write the shop to ``config.directory``, whole or not at all; returns the answers, as planted.json has them.

    events/<day>.csv.gz (or .parquet), a file per open day; items.csv.gz; users.csv.gz; planted.json. Days are
    made one after the other, so memory holds a few days' events whatever the shop's size.

    Raises:
        ConfigError: the directory holds something that is no generated shop.
    """
    target = Path(config.directory)
    target = target if target.is_absolute() else CHECKOUT / target
    if target.exists() and any(target.iterdir()) and not (target / ANSWERS).exists():
        raise ConfigError(
            f"generate_shop.directory={config.directory} holds something that is no generated shop (no {ANSWERS}): "
            "name another directory, or empty this one"
        )
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "events").mkdir(parents=True)
    world = build_world(config)
    _write_items(config, world, partial / "items.csv.gz")
    _write_users(config, world, partial / "users.csv.gz")
    planted = _write_days(config, world, partial / "events")
    (partial / ANSWERS).write_text(json.dumps(asdict(planted), indent=1, sort_keys=True) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    log.info("shop_generated", rows=planted.raw_rows, directory=str(target))
    return planted


def _write_days(config: GenerateShopConfig, world: World, folder: Path) -> Planted:
    writer = RowWriter(config, world)
    planted = Planted()
    dirty: Counter[str] = Counter()
    types = np.zeros(len(TYPE_NAMES), dtype=np.int64)
    preferred_views = 0
    days = days_of(config)
    due: dict[int, list[Events]] = {}
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, day in enumerate(days):
            if not is_open(config, day):
                planted.closed_days.append(str(day))
                continue
            returned = join([no_events(), *due.pop(number, [])])
            # A day that is too short for all its returns takes the first ones; the rest is never brought.
            returned = returned.take(np.arange(min(len(returned), world.events_per_day[number])))
            made = build_day(config, world, number, returned, day)
            _plan_returns(config, days, number, made.coming_back, lag_days=made.lag_days, due=due)
            rows, soiled = writer.rows(made.events, number, day)
            name = f"{day}.csv.gz" if config.file_format == "csv" else f"{day}.parquet"
            while len(pending) > _THREADS:
                pending.popleft().result()
            pending.append(pool.submit(_write_table, rows, folder / name))
            planted.raw_rows_by_file[name] = rows.num_rows
            dirty.update(soiled)
            types += np.bincount(made.events.type, minlength=len(TYPE_NAMES))
            planted.repeat_purchases += made.repeats
            preferred_views += made.preferred_views
            if number % _LOG_EVERY_DAYS == 0:
                log.info("day_generated", day=str(day), rows=rows.num_rows, of_days=len(days))
        for future in pending:
            future.result()
    planted.raw_rows = sum(planted.raw_rows_by_file.values())
    planted.dirty_rows = dict(dirty)
    planted.accepted_rows = planted.raw_rows - sum(dirty.values())
    planted.events_by_type = dict(zip(TYPE_NAMES, types.tolist(), strict=True))
    planted.preferred_view_share = round(preferred_views / max(1, int(types[0])), 6)
    planted.out_of_stock_items = [
        n for n, there in zip(item_names(config), world.in_stock, strict=True) if not there
    ]
    planted.first_run_date = str(date.fromordinal(days[-1].toordinal() + 1))
    return planted


def _plan_returns(
    config: GenerateShopConfig,
    days: list[date],
    number: int,
    coming_back: Events,
    *,
    lag_days: Ints,
    due: dict[int, list[Events]],
) -> None:
    """Put the purchases that come back on the day they do; what would come after the last day does not."""
    for lag in np.unique(lag_days):
        back_on = number + int(lag)
        while back_on < len(days) and not is_open(config, days[back_on]):
            back_on += 1
        if back_on < len(days):
            due.setdefault(back_on, []).append(coming_back.take(np.flatnonzero(lag_days == lag)))


def _write_items(config: GenerateShopConfig, world: World, path: Path) -> None:
    names = item_names(config)
    columns = {
        "item": names,
        "title": [
            f"{_COLOURS[n % len(_COLOURS)]} {_THINGS[n // len(_COLOURS) % len(_THINGS)]} {n + 1}"
            for n in range(config.items)
        ],
        "category": [f"group {g:02} > shelf {n % 3}" for n, g in enumerate(world.group_of_item)],
        "brand": [f"brand {n % 7}" for n in range(config.items)],
        "price": [f"{p // 100}.{p % 100:02}" for p in world.price_pence],
        "stock": [str(100 if there else 0) for there in world.in_stock],
    }
    _write_table(pa.table(columns), path)


def _write_users(config: GenerateShopConfig, world: World, path: Path) -> None:
    items = item_names(config)
    columns = {
        "user": user_names(config),
        "region": [SEGMENTS[s] for s in world.segment_of_user],
        "preferred_groups": [" ".join(str(g) for g in groups) for groups in world.preferred],
        "favourites": [" ".join(items[i] for i in favourites) for favourites in world.favourites],
    }
    _write_table(pa.table(columns), path)


def _write_table(rows: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
        return
    text = io.BytesIO()
    # No value has a delimiter, a quote or a line break in it.
    pacsv.write_csv(rows, text, pacsv.WriteOptions(quoting_style="none"))
    with (
        open(path, "wb") as file,
        gzip.GzipFile(fileobj=file, filename="", mode="wb", compresslevel=1, mtime=0) as packed,
    ):
        packed.write(text.getbuffer())
