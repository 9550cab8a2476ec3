"""A shop with a known answer: after item i a user takes item i + 1, and comes back every day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.sections import EvaluationConfig
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import Answers
from tests.scoring.ranking_worlds import answers_file, ranking_folder
from tests.scoring.worlds import model_folder

RUN_DATE = date(2024, 6, 29)
WINDOW_DAYS = 4
FIRST_DAY = date(2024, 6, 11)
NUM_USERS, NUM_ITEMS = 40, 15

Events = list[tuple[str, int, date]]


def purchases() -> Events:
    """(user, item number, day): user u starts at item u and takes the next one each day, in a circle."""
    days = (RUN_DATE - FIRST_DAY).days
    return [
        (f"u{u:02}", (u + day) % NUM_ITEMS + 1, FIRST_DAY + timedelta(days=day))
        for u in range(NUM_USERS)
        for day in range(days)
    ]


def with_windows(config: RecsysConfig, **evaluation: Any) -> RecsysConfig:
    """``config`` with windows that fit the shop."""
    section = EvaluationConfig(window_days=WINDOW_DAYS, **evaluation)
    return config.model_copy(update={"evaluation": section})


def write_shop(lake: Lake, config: RecsysConfig) -> None:
    """Events, and at the two cut-offs what features and candidates make of them."""
    cut_offs = config.evaluation.cut_offs(RUN_DATE)
    days = (cut_offs.choosing, cut_offs.measuring)
    _write(lake, contracts.EVENTS, [_event(*purchase) for purchase in purchases()])
    ids = [("item", day, f"i{num}", num) for day in days for num in range(1, NUM_ITEMS + 1)]
    _write(lake, contracts.VOCABULARIES, ids)
    _write(lake, contracts.HISTORIES, [row for day in days for row in _histories(day)])
    _write(lake, contracts.SEEN_ITEMS, [("u00", day, [1]) for day in days])
    pairs = [
        (f"i{num}", day, f"i{num % NUM_ITEMS + 1}", num, num % NUM_ITEMS + 1, 1.0, 9)
        for day in days
        for num in range(1, NUM_ITEMS + 1)
    ]
    _write(lake, contracts.ITEM_SIMILARITY, pairs)
    _write(lake, contracts.TRANSITIONS, pairs)
    again = [
        (f"i{num}", day, num, 0.5, 7.0, 1.0, 40, 40) for day in days for num in range(1, NUM_ITEMS + 1)
    ]  # fmt: skip
    _write(lake, contracts.REORDER_INTERVALS, again)
    popular = [
        ("", d, f"i{num}", num, 0.5, 40, num) for d in days for num in range(1, NUM_ITEMS + 1)
    ]
    _write(lake, contracts.POPULARITY, popular)


def write_late_item(lake: Lake, item_id: str, *, known_as_of: date, first_bought: date) -> None:
    """Candidates as of a day that name an item whose first event is later; ``write_shop`` came before."""
    event = list(_event("u00", 0, first_bought))
    event[0], event[3] = f"u00-{item_id}", item_id
    _write(lake, contracts.EVENTS, [tuple(event)], mode="append")
    popular = ("", known_as_of, item_id, NUM_ITEMS, 0.5, 1, NUM_ITEMS + 1)
    _write(lake, contracts.POPULARITY, [popular], mode="append")


def write_models(config: RecsysConfig) -> dict[str, str]:
    """One hand-made model per cut-off: items on a circle, a user's vector is the mean of the last two."""
    angles = 2 * np.pi * np.arange(NUM_ITEMS + 1) / NUM_ITEMS
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors[0] = 0
    cut_offs = config.evaluation.cut_offs(RUN_DATE)
    versions = {"choosing": "choosing", "measuring": "measuring", "release": "release-model"}
    for role, version in versions.items():
        as_of = getattr(cut_offs, role)
        model_folder(
            config.paths.models, vectors,
            version=version, history_length=2, as_of=as_of, proven=False,
        )  # fmt: skip
    return versions


def write_ranking_models(
    config: RecsysConfig,
) -> tuple[dict[str, str], dict[str, Answers]]:
    """One per cut-off that prefers large item numbers, whoever asks; asked, it knows all that is taken.

    Returns ``ranking`` and ``answers`` of the record of train.
    """
    shown = range(1, NUM_ITEMS + 1)
    answers = {
        "user_S": [user for user in range(NUM_USERS) for _ in shown],
        "item_nums_S": [item for _ in range(NUM_USERS) for item in shown],
        "taken_S": [user % NUM_ITEMS + 1 == item for user in range(NUM_USERS) for item in shown],
        "logits_S": [
            3.0 * (user % NUM_ITEMS + 1 == item) - 2 for user in range(NUM_USERS) for item in shown
        ],
    }
    cut_offs = config.evaluation.cut_offs(RUN_DATE)
    for role in ("choosing", "measuring"):
        ranking_folder(
            config.paths.models, [float(num) for num in shown], version=f"ranking-{role}",
            as_of=getattr(cut_offs, role), proven=False, num_users=NUM_USERS,
        )  # fmt: skip
    said = answers_file(config.paths.models, RUN_DATE, "measuring", answers)
    roles = ("choosing", "measuring", "release")
    return {role: f"ranking-{role}" for role in roles}, {"measuring": said}


def _event(user: str, num: int, day: date) -> tuple[Any, ...]:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return (
        f"{user}-{day}", "purchase", user, f"i{num}", at, day, None, None, None, None, "shop", "f",
        None, None, None, None, None,
    )  # fmt: skip


def _histories(as_of: date) -> Iterator[tuple[Any, ...]]:
    by_user: dict[str, list[tuple[int, date]]] = {}
    for user, num, day in purchases():
        if day < as_of:
            by_user.setdefault(user, []).append((num, day))
    for user, acts in by_user.items():
        nums = [num for num, _ in acts]
        ages = [float((as_of - day).days) for _, day in acts]
        yield (
            user,
            as_of,
            None,
            [f"i{n}" for n in nums],
            nums,
            ["purchase"] * len(nums),
            ages,
            False,
        )


def _write(
    lake: Lake,
    contract: contracts.TableContract,
    rows: list[tuple[Any, ...]],
    *,
    mode: str = "error",
) -> None:
    df = local_rows(lake.spark, rows, struct_type(contract)).coalesce(1)
    df.write.format("delta").mode(mode).save(lake.path(contract))
