"""A small shop that is scored and published for real: every copy of an answer that an audit compares.

Written by delta-rs where Spark does not have to: a table takes it a tenth of the time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.rules import RulesConfig
from recsys.records import Recipe
from tests.conftest import TEST_SPARK
from tests.release.shop import RUN_DATE, write_table
from tests.scoring.worlds import model_folder

if TYPE_CHECKING:
    from recsys.lake import Lake
    from recsys.release.manifest import ReleaseManifest

NOW = datetime(2024, 6, 1, 3, tzinfo=UTC)
ITEMS = ("tea", "cup", "pot", "jam", "bun", "gin", "wok", "pan")
NUMS = {item: num for num, item in enumerate(ITEMS, start=1)}
FACTS: dict[str, dict[str, Any]] = {
    "jam": {"stock": 0},
    "gin": {"attributes": {"alcohol": "yes"}},
    "wok": {"category": "Home > Wares"},
    "pan": {"category": "Home > Wares"},
}
USERS = {f"user-{n:02}": ("UK", "France", "Oz")[n % 3] for n in range(20)} | {"ana/é": "France"}
RULES = RulesConfig.model_validate({
    "catalogue": {
        "dry": {"segments": ["Oz"], "hide": {"attributes": {"alcohol": ["yes"]}}},
    },
    "returned_days": 30,
    "max_per": {"category": 1},
})  # fmt: skip
RECIPE = Recipe(
    name="blend", model=0.5, similarity=0.4, transitions=0.6, popularity=0.2, repeat=0.1
)
VERSION = "hand-made"


def config_of(root: Path) -> RecsysConfig:
    config = RecsysConfig(paths=PathsConfig(root=str(root)), spark=TEST_SPARK, rules=RULES)
    return config.model_copy(update={"scoring": config.scoring.model_copy(update={"n": 5})})


def publish_shop(lake: Lake, config: RecsysConfig) -> ReleaseManifest:
    """Tables, a model, a night's scoring, a release."""
    from recsys.release.data_files import write_data_files
    from recsys.release.publish import publish
    from recsys.scoring.choice import Choice
    from recsys.scoring.daily import score_day

    _write_tables(Path(config.paths.lake_uri))
    choice = Choice(VERSION, RECIPE, "a test", is_new=False, live=None)
    vectors = _vectors()
    model_folder(config.paths.models, vectors, version=VERSION, as_of=RUN_DATE)
    score_day(lake, config, RUN_DATE, choice)
    manifest = publish(lake, config, RUN_DATE, now=NOW).manifest
    write_data_files(lake, config.paths, manifest)
    return manifest


def _vectors() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(len(ITEMS) + 1, 8)).astype(np.float32)
    vectors[0] = 0
    return vectors


def _write_tables(root: Path) -> None:
    since = RUN_DATE - timedelta(days=100)
    numbers = [dict(kind="item", version=RUN_DATE, id=item, num=num) for item, num in NUMS.items()]
    write_table(root, contracts.VOCABULARIES, numbers)
    items = [
        dict(item_id=item, valid_from=since, title=item) | FACTS.get(item, {}) for item in ITEMS
    ]
    write_table(root, contracts.ITEMS, items)
    users = [dict(user_id=user, valid_from=since, segment=s) for user, s in USERS.items()]
    write_table(root, contracts.USERS, users)
    write_table(root, contracts.HISTORIES, [_history(n, user) for n, user in enumerate(USERS)])
    write_table(root, contracts.SEEN_ITEMS, [dict(user_id="user-01", item_nums=[1])])
    write_table(root, contracts.EVENTS, [_return("user-02", "pan", 3)])
    vectors = [
        dict(item_id=item, item_num=num, vector=_vectors()[num].tolist(), model_version=VERSION)
        for item, num in NUMS.items()
    ]
    write_table(root, contracts.ITEM_VECTORS, vectors)
    pairs = [(one, other) for one in ITEMS for other in ITEMS if one != other]
    similar = [
        dict(item_id=a, similar_item_id=b, item_num=NUMS[a], similar_item_num=NUMS[b],
             score=1 / (1 + NUMS[a] * NUMS[b]), num_users=3)
        for a, b in pairs
    ]  # fmt: skip
    write_table(root, contracts.ITEM_SIMILARITY, similar)
    steps = [
        dict(item_id=a, next_item_id=b, item_num=NUMS[a], next_item_num=NUMS[b],
             score=1 / (2 + NUMS[a] + 2 * NUMS[b]), num_steps=3)
        for a, b in pairs
    ]  # fmt: skip
    write_table(root, contracts.TRANSITIONS, steps)
    sold = [
        dict(segment="", item_id=item, item_num=num, score=0.5, num_users=100 - num, rank=num)
        for item, num in NUMS.items()
    ]
    write_table(root, contracts.POPULARITY, sold)


def _history(n: int, user: str) -> dict[str, Any]:
    items = [ITEMS[(n * 3 + k) % len(ITEMS)] for k in range(1 + n % 4)]
    return dict(
        user_id=user, segment=USERS[user], item_ids=items, item_nums=[NUMS[i] for i in items],
        event_types=["purchase"] * len(items), ages_days=[float(9 - k) for k in range(len(items))],
        is_capped=False,
    )  # fmt: skip


def _return(user: str, item: str, days: int) -> dict[str, Any]:
    day = RUN_DATE - timedelta(days=days)
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return dict(
        event_id="e1", event_type="return", user_id=user, item_id=item, event_date=day, event_ts=at,
        quantity=Decimal(1), unit_price=Decimal(2),
    )  # fmt: skip
