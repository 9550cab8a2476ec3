"""Whose lists may change: by their own events, and by what the rules took or let through."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.lake.as_of import numbers
from recsys.scoring.changes import Used, types_read, users_with_changes
from recsys.scoring.frozen import FrozenLake, frozen_users, rebuilt_users, segments_of
from recsys.scoring.increment import Increment, read_as_it_was
from recsys.scoring.kit import Kit
from recsys.scoring.rule_changes import (
    RuleChanges,
    only_newly_allowed,
    users_who_lose,
    users_who_win,
)
from recsys.scoring.scorer import Entry, Rules
from recsys.scoring.spark import score_users, scoring_task

log = structlog.get_logger()


@dataclass(frozen=True)
class Found:
    """Users; none comes twice."""

    users: DataFrame
    """Column user_id."""
    ids: pa.StringArray


@dataclass(frozen=True)
class Scene:
    """Everything that an increment's questions are asked of."""

    lake: Lake
    frozen: FrozenLake
    config: RecsysConfig
    step: Increment
    entry: Entry
    stack: ExitStack
    """Drops at its end what was kept on the way."""

    @property
    def numbered(self) -> bool:
        return bool(self.entry.ranking_version)

    @cached_property
    def live_table(self) -> DataFrame:
        """top_n_lists as it was published: one frame, since Delta works out an older version for each anew."""
        version = self.step.live.versions[contracts.TOP_N_LISTS.name]
        return self.lake.read(contracts.TOP_N_LISTS, version=version)

    @property
    def carried_lists(self) -> DataFrame:
        """The lists that are live."""
        return self.live_table.where(F.col("as_of") == F.lit(self.step.live.run_date))

    def users(self, only: DataFrame | None) -> DataFrame:
        """Those who are scored: ``only`` these, or everybody, with today's events and the full run's clock."""
        step = self.step
        if only is not None:
            return rebuilt_users(
                self.frozen, self.config, step.full_as_of, step.now,
                numbered=self.numbered, only=only,
            )  # fmt: skip
        changed = self.found(self.changed_since(step.since_full)).users
        return frozen_users(
            self.frozen, self.config, step.full_as_of, step.now, changed, numbered=self.numbered
        )

    def changed_since(self, earlier: Used) -> DataFrame:
        """(user_id): whose events, as far as lists read them, are others now."""
        items = numbers(self.frozen.vocabulary(self.step.full_as_of), "item").select("item_id")
        return users_with_changes(self.lake, earlier, self.step.now, items, types_read(self.config))

    def found(self, users: DataFrame) -> Found:
        """Computed once, here, and held by this process, which hands the ids out for each join anyway.

        Raises:
            Refused: a change feed, or a version of a table, is gone.
        """
        with read_as_it_was(self.step):
            ids = users.select("user_id").toArrow()
        users = self.lake.spark.createDataFrame(ids, "user_id string")
        return Found(users, ids.column("user_id").combine_chunks())


def affected_users(scene: Scene, kit: Kit, changes: RuleChanges) -> Found | None:
    """Those to score; None: everybody."""
    step = scene.step
    said = dict(
        since=str(step.live.run_date), full_as_of=str(step.full_as_of),
        newly_hidden=int(changes.hidden_SN.any(axis=0).sum()),
        newly_allowed=int(changes.allowed_SN.any(axis=0).sum()),
    )  # fmt: skip
    if changes.everybody:
        log.info("everybody_affected", reason=changes.everybody, **said)
        return None
    affected = acted = scene.found(scene.changed_since(step.since_live))
    lists = scene.carried_lists
    if changes.hidden_SN.any():
        segments = segments_of(scene.frozen, step.full_as_of)
        losers = users_who_lose(scene.lake, lists, segments, changes, kit)
        affected = scene.found(affected.users.unionByName(losers).distinct())
    if changes.allowed_SN.any():
        best = _best_newly_allowed(scene, only_newly_allowed(kit, changes), affected.users)
        winners = users_who_win(lists, best, scene.config.scoring.n)
        affected = scene.found(affected.users.unionByName(winners))
    log.info("users_affected", users=len(affected.ids), by_events=len(acted.ids), **said)
    return affected


def _best_newly_allowed(scene: Scene, kit: Kit, affected: DataFrame) -> DataFrame:
    """What is newly let through, for those not affected otherwise: the same scorer, lists of one place."""
    users = scene.users(None).join(F.broadcast(affected), "user_id", "left_anti")
    entry, scoring = scene.entry, scene.config.scoring
    rankings = (entry.ranking_version,) if entry.ranking_version else ()
    task = scene.stack.enter_context(
        scoring_task(scene.lake.spark, scene.config, kit, (entry.model_version,), rankings)
    )
    without_list_rules = replace(task, rules=Rules(task.rules.exclude_seen))
    return score_users(users, without_list_rules, entry, n=1, partitions=scoring.partitions)
