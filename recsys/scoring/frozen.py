"""Users as a full run would see them whose clock stands still: new events, and the numbers and ages of its day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.contracts import EVENTS, HISTORIES, USERS, TableContract
from recsys.features.histories import histories
from recsys.features.seen import seen_items
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.lake.tables import Values
from recsys.scoring.changes import Used
from recsys.scoring.returned import returned_items
from recsys.scoring.spark import joined_users, users_to_score


class FrozenLake(Lake):
    """The tables at the versions that a full run read; the others as they are now."""

    def __init__(self, lake: Lake, config: RecsysConfig, versions: Mapping[str, int]) -> None:
        super().__init__(lake.spark, config.paths)
        self._versions = versions
        self._frames: dict[tuple[str, int], DataFrame] = {}

    def read(
        self, contract: TableContract, *, version: int | None = None, **where: Values
    ) -> DataFrame:
        if version is None:
            version = self._versions.get(contract.name)
        if version is None or where:
            return super().read(contract, version=version, **where)
        # Delta works out an older version anew for each frame.
        key = (contract.name, version)
        if key not in self._frames:
            self._frames[key] = super().read(contract, version=version)
        return self._frames[key]


def rebuilt_users(
    frozen: Lake,
    config: RecsysConfig,
    as_of: date,
    used: Used,
    *,
    numbered: bool,
    only: DataFrame | None = None,
) -> DataFrame:
    """Columns ``spark.INPUT``, made from events: of all users, or of those in ``only`` (a column user_id).

    ``as_of`` is the full run's day. An item without a number of that day is left out, as if it had not been
    touched; a user without one is a stranger, whose events mask and do not rank.
    """
    vocabulary = frozen.vocabulary(as_of)
    people = frozen.read_or_empty(USERS)
    known_items = numbers(vocabulary, "item").select("item_id")
    events = as_if_before(frozen.read(EVENTS, version=used.version), as_of, used.before)
    if only is not None:
        # First: it leaves few of all the events there are for the joins that follow.
        events = events.join(F.broadcast(only), "user_id", "left_semi")
        people = people.join(F.broadcast(only), "user_id", "left_semi")
    past = events.join(F.broadcast(known_items), "item_id", "left_semi")
    made = histories(
        past, people, vocabulary, as_of=as_of, shop=config.shop,
        max_history=config.features.max_history,
        max_user_events_90d=config.candidates.max_user_events_90d,
    )  # fmt: skip
    user_nums = numbers(vocabulary, "user")
    if only is not None:
        user_nums = user_nums.join(F.broadcast(only), "user_id", "left_semi")
    days = config.rules.returned_days
    return joined_users(
        _without_strangers(made, user_nums),
        known_before(people, "user_id", as_of).select("user_id", "segment"),
        seen_items(past, vocabulary, as_of=as_of, shop=config.shop)
        if config.shop.exclude_seen
        else None,
        returned_items(past, vocabulary, as_of=as_of, days=days) if days else None,
        user_nums if numbered else None,
    )


def frozen_users(
    frozen: Lake,
    config: RecsysConfig,
    as_of: date,
    used: Used,
    changed: DataFrame,
    *,
    numbered: bool,
) -> DataFrame:
    """``rebuilt_users`` of all, with the full run's own rows for those who are not in ``changed`` since."""
    untouched = users_to_score(
        frozen, as_of, exclude_seen=config.shop.exclude_seen, numbered=numbered,
        returned_days=config.rules.returned_days,
    )  # fmt: skip
    again = rebuilt_users(frozen, config, as_of, used, numbered=numbered, only=changed)
    return untouched.join(F.broadcast(changed), "user_id", "left_anti").unionByName(again)


def segments_of(frozen: Lake, as_of: date) -> DataFrame:
    """(user_id, segment) of everyone that the full run knew."""
    people = known_before(frozen.read_or_empty(USERS), "user_id", as_of)
    in_histories = frozen.read(HISTORIES, as_of=as_of).select("user_id", "segment")
    return people.select("user_id", "segment").unionByName(in_histories).distinct()


def as_if_before(events: DataFrame, as_of: date, before: date) -> DataFrame:
    """The events of days strictly before ``before``; those from ``as_of`` on count as of the day before it.

    So windows that end at ``as_of`` hold them. Their moments stay: an age counts to ``as_of``, and is below 0 where
    the event is later.
    """
    last = F.lit(as_of - timedelta(days=1))
    return events.where(F.col("event_date") < F.lit(before)).withColumn(
        "event_date", F.least("event_date", last)
    )


def _without_strangers(made: DataFrame, user_nums: DataFrame) -> DataFrame:
    """Histories; a null one for users without a number."""
    is_known = F.col("user_num").isNotNull()
    columns = ("item_nums", "ages_days", "event_types")
    return made.join(user_nums, "user_id", "left").select(
        "user_id",
        F.col("segment").alias("history_segment"),
        *(F.when(is_known, F.col(name)).alias(name) for name in columns),
    )
