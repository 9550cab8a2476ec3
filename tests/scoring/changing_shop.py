"""A small shop that trades on: files of events by day, a full run on one day, and increments after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from jobs import score_changes, score_top_n
from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.config.rules import RulesConfig
from recsys.config.shop import ShopConfig
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import EvaluationRecord, Recipe, ScoringRecord
from recsys.release.manifest import CodeVersion, ReleaseManifest, ReleaseModel, TableVersion
from recsys.release.pointer import Pointer, release_folder, write_pointer
from tests.release.shop import write_table
from tests.scoring.worlds import model_folder

FULL = date(2024, 6, 1)
"""The run date of the full run."""
MIDNIGHT = datetime(2024, 6, 1, tzinfo=UTC)
NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
RECIPE = Recipe(
    name="blend", model=0.5, similarity=0.6, transitions=0.4, repeat=0.2, popularity=0.1, decay=0.8
)
SEGMENTS = {f"u{n:02}": "north" for n in range(10)} | {"quiet": "north"}
"""Of the users that the shop says something of; the quiet one never acts."""
ITEMS = [f"i{n:02}" for n in range(1, 25)]
TYPES = ("view", "view", "cart", "purchase", "purchase", "return")
Acts = dict[str, tuple[Any, ...]]
"""Rows of events by event_id."""


def ruled(**rules: Any) -> RulesConfig:
    return RulesConfig.model_validate({"returned_days": 20, "max_per": {"category": 3}} | rules)


@dataclass
class Shop:
    """What the shop's files say, and the lake that they are read into."""

    lake: Lake
    config: RecsysConfig
    days: dict[date, Acts] = field(default_factory=dict)
    delivered: dict[date, Acts] = field(default_factory=dict)
    """As they were when they were read last."""
    stock: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ITEMS, 5))
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    recipe: Recipe = RECIPE
    ranking_version: str = ""
    """A ranking model in the folder of models, where the recipe re-ranks."""

    def trade(self, day: date, users: Iterable[str], events: int = 1) -> None:
        """So many random events of each of ``users``, in the day's file."""
        acts = self.days.setdefault(day, {})
        for user in users:
            for _ in range(events):
                item = ITEMS[int(self.draw.integers(len(ITEMS)))]
                self.act(day, user, item, TYPES[int(self.draw.integers(len(TYPES)))], into=acts)

    def act(
        self, day: date, user: str, item: str, event_type: str = "purchase", into: Acts | None = None
    ) -> str:  # fmt: skip
        """One event; returns its id."""
        acts = self.days.setdefault(day, {}) if into is None else into
        event_id = f"{day}-{len(acts):04}"
        at = datetime.combine(day, time(9), UTC) + timedelta(minutes=len(acts))
        acts[event_id] = (
            event_id, event_type, user, item, at, day, None, None, None, None, "shop", f"{day}.csv",
            None, None, None, None, None,
        )  # fmt: skip
        return event_id

    def deliver(self, *days: date) -> None:
        """Read the files of these days, again or for the first time, as ingest does."""
        self.delivered |= {day: dict(self.days[day]) for day in days}
        rows = [row for day in days for row in self.days[day].values()]
        events = local_rows(self.lake.spark, rows, struct_type(t.EVENTS))
        files = tuple(f"{day}.csv" for day in days)
        self.lake.replace(events, t.EVENTS, {"source": "shop", "source_file": files})

    def used(self, run_date: date) -> set[tuple[Any, ...]]:
        """The delivered events that lists of ``run_date`` read, by what they read of them."""
        acts = [row for of_day in self.delivered.values() for row in of_day.values()]
        return {
            row[:6] for row in acts if row[5] < run_date and row[3] in ITEMS and row[1] in TYPES
        }

    def deliver_catalogue(self, day: date) -> None:
        """Stocks as the shop knows them on ``day``."""
        rows: list[tuple[Any, ...]] = [
            (item, day, item, f"group {n % 6}", None, None, self.stock[item], None, None, "shop",
             f"items-{day}.csv", {})
            for n, item in enumerate(ITEMS)
        ]  # fmt: skip
        items = local_rows(self.lake.spark, rows, struct_type(t.ITEMS))
        self.lake.replace(items, t.ITEMS, {"source": "shop", "source_file": f"items-{day}.csv"})

    def full_run(self) -> ScoringRecord:
        """Lists as of ``FULL``, live; what features and candidates make of the shop is written by hand."""
        root = Path(self.config.paths.lake_uri)
        for contract, rows in self.tables_of_the_full_run():
            write_table(root, contract, rows)
        vectors = np.random.default_rng(3).normal(size=(len(ITEMS) + 1, 8))
        vectors[0] = 0
        model_folder(self.config.paths.models, vectors, as_of=FULL)
        EvaluationRecord(
            run_date=FULL, passed=True, reason="ok", recipe=self.recipe,
            model_version="hand-made", ranking_version=self.ranking_version,
        ).write(self.config.paths)  # fmt: skip
        return self.go_live(score_top_n.run(self.lake, self.config, FULL))

    def tables_of_the_full_run(self) -> Iterator[tuple[t.TableContract, list[dict[str, Any]]]]:
        """Every item has a number, and so has every user with an event."""
        num = {item: n for n, item in enumerate(ITEMS, start=1)}
        acts = [row for day in sorted(self.days) for row in self.days[day].values() if day < FULL]
        of_user: dict[str, list[tuple[Any, ...]]] = {}
        for row in acts:
            of_user.setdefault(row[2], []).append(row)
        ids = [("item", item, n) for item, n in num.items()]
        ids += [("user", user, n) for n, user in enumerate(sorted(of_user), start=1)]
        yield t.VOCABULARIES, [dict(kind=k, version=FULL, id=id_, num=n) for k, id_, n in ids]
        yield (
            t.USERS,
            [
                dict(user_id=user, segment=segment, valid_from=FULL - timedelta(days=30))
                for user, segment in SEGMENTS.items()
            ],
        )
        histories, seen = [], []
        for user, rows in of_user.items():
            past = [row for row in rows if row[1] in {"view", "cart", "purchase"}]
            past = past[-self.config.features.max_history :]
            ages = [np.float32((MIDNIGHT - row[4]) / timedelta(days=1)) for row in past]
            if past:
                histories.append(dict(
                    user_id=user, segment=SEGMENTS.get(user), item_ids=[row[3] for row in past],
                    item_nums=[num[row[3]] for row in past], event_types=[row[1] for row in past],
                    ages_days=ages, is_capped=False,
                ))  # fmt: skip
            taken = {num[row[3]] for row in rows if row[1] == "purchase"}
            if taken:
                seen.append(dict(user_id=user, item_nums=sorted(taken)))
        yield t.HISTORIES, histories
        yield t.SEEN_ITEMS, seen
        draw = np.random.default_rng(5)
        pairs = [(a, b) for a in ITEMS for b in ITEMS if a != b and draw.random() < 0.3]
        for contract, other, count in (
            (t.ITEM_SIMILARITY, "similar", "num_users"), (t.TRANSITIONS, "next", "num_steps"),
        ):  # fmt: skip
            yield contract, [
                {
                    "item_id": a, f"{other}_item_id": b, "item_num": num[a],
                    f"{other}_item_num": num[b], "score": float(draw.random()), count: 3,
                }
                for a, b in pairs
            ]  # fmt: skip
        yield (
            t.POPULARITY,
            [
                dict(segment=segment, item_id=item, item_num=n, score=0.5, num_users=users, rank=n)
                for item, n in num.items()
                for segment, users in (("", 60 - 2 * n), ("north", n))
            ],
        )

    def increment(self, run_date: date) -> ScoringRecord:
        """``score_changes``, live."""
        return self.go_live(score_changes.run(self.lake, self.config, run_date))

    def go_live(self, record: ScoringRecord) -> ScoringRecord:
        """A live release of what was scored, as publish leaves it."""
        tables = {
            table.name: TableVersion(version=self.lake.version(table), content_hash="", rows=1)
            for table in (t.EVENTS, t.RULES, t.TOP_N_LISTS, t.SIMILAR_ITEMS)
        }
        manifest = ReleaseManifest(
            release_id=f"{record.run_date}-abcdef012345", run_date=record.run_date, shop="demo",
            content_hash="c", tables=tables, lists={},
            model=ReleaseModel(
                version=record.model_version, as_of=record.model_as_of, hash="h", age_days=0,
                reason=record.reason, ranking_version=record.ranking_version,
            ),
            recipe=record.recipe, config_hash="h", code=CodeVersion(package="0", commit=""),
        )  # fmt: skip
        folder = release_folder(self.config.paths, manifest.release_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(manifest.to_json())
        write_pointer(self.config.paths, Pointer(release_id=manifest.release_id, at=NOON))
        return record

    def under(self, **rules: Any) -> Shop:
        """The same shop, with other rules from now on."""
        return replace(self, config=self.config.model_copy(update={"rules": ruled(**rules)}))


def config_of(config: RecsysConfig) -> RecsysConfig:
    """Lists of eight, what was bought is masked for 25 days, returns and categories are ruled."""
    shop = ShopConfig.model_validate(
        {"exclude_seen": True, "signals": {"purchase": {"seen_days": 25}}}
    )
    return config.model_copy(
        update={
            "shop": shop,
            "rules": ruled(),
            "features": config.features.model_copy(update={"max_history": 6}),
            "scoring": config.scoring.model_copy(
                update={"n": 8, "audit_users": 12, "partitions": 2}
            ),
        }
    )
