"""Lists for any number of users: stage 1 in blocks, stage 2 where the recipe re-ranks, then the list rules.

The one path to every list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.records import Recipe
from recsys.scoring.kernel import Scratch, retrieve
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists, at_most_per_category, joined
from recsys.scoring.parts import (
    DenseParts,
    ItemItemParts,
    ItemStatistics,
    Parts,
    dense_parts,
    item_item_parts,
    only_rows,
)
from recsys.scoring.stage_two import rerank
from recsys.scoring.users import Ints, UserBatch

BLOCK_CELLS = 4_000_000
"""Users x items per block: 50 MB of scratch."""

DEEPER = 4
"""When a rule leaves a list short, M grows by this factor."""


@dataclass(frozen=True)
class Rules:
    """What the shop decides, whatever the recommender."""

    exclude_seen: bool = False
    max_per_category: int = 0
    """0 is no limit."""


@dataclass(frozen=True)
class Entry:
    """One recommender: a recipe, and the models it uses."""

    recipe: Recipe
    model_version: str = ""
    """A model of the kit; empty where the recipe gives the model no weight."""
    ranking_version: str = ""
    """A ranking model of the kit; empty where the recipe does not re-rank."""


class Scorer:
    """Scores users with the kit; keeps scratch memory, so one per thread."""

    def __init__(self, kit: Kit, rules: Rules, *, batch_users: int = 1024) -> None:
        self.kit = kit
        self.rules = rules
        self.block_users = max(1, min(batch_users, BLOCK_CELLS // kit.width))
        self._scratch = Scratch(self.block_users, kit.width)
        self._statistics: dict[str, ItemStatistics] = {}

    def lists(self, users: UserBatch, entry: Entry, n: int) -> Lists:
        """The ``n`` best items of each user under the rules; shorter where fewer are allowed.

        Raises:
            CorruptArtifact: the encoder or the ranking model gave NaN or infinity.
        """
        [lists] = self.lists_by_entry(users, (entry,), n)
        return lists

    def lists_by_entry(self, users: UserBatch, entries: tuple[Entry, ...], n: int) -> list[Lists]:
        """``lists`` for several recommenders, sharing what they have in common."""
        blocks: list[list[Lists]] = [[] for _ in entries]
        for block in self.blocks(users):
            dense: dict[str, DenseParts] = {}
            item_item: dict[tuple[float, bool], ItemItemParts] = {}
            for entry, done in zip(entries, blocks, strict=True):
                parts = self.parts(block, entry, dense, item_item)
                done.append(self.lists_of_parts(parts, entry, n))
        return [joined(done) for done in blocks]

    def blocks(self, users: UserBatch) -> list[UserBatch]:
        """The users in blocks that fit the scratch memory."""
        starts = range(0, len(users), self.block_users)
        return [users.slice(start, min(start + self.block_users, len(users))) for start in starts]

    def parts(
        self,
        block: UserBatch,
        entry: Entry,
        dense: dict[str, DenseParts],
        item_item: dict[tuple[float, bool], ItemItemParts],
    ) -> Parts:
        """What ``entry`` weighs, taken from the two caches of this block or put there."""
        recipe, version = entry.recipe, entry.model_version
        if recipe.model > 0 and version not in dense:
            dense[version] = self._dense(block, version)
        history = (recipe.decay, recipe.targets_only)
        if recipe.uses_item_item and history not in item_item:
            item_item[history] = item_item_parts(
                block, self.kit, decay=recipe.decay, targets_only=recipe.targets_only
            )
        return Parts(
            block,
            dense[version] if recipe.model > 0 else None,
            item_item[history] if recipe.uses_item_item else None,
        )

    def lists_of_parts(self, parts: Parts, entry: Entry, n: int) -> Lists:
        """Stage 1, stage 2 where the recipe re-ranks, then the list rules, for one block."""
        limited = self.rules.max_per_category > 0
        m = 2 * n if limited else n
        if entry.recipe.re_ranks:
            m = max(m, entry.recipe.rerank)
        retrieved = self._ordered(parts, entry, m)
        lists = self._apply_list_rules(retrieved, n)
        while limited and m < self.kit.width:
            # Only a list that was cut at M can have more to give.
            short = np.flatnonzero((lists.lengths < n) & (retrieved.lengths == m))
            if not len(short):
                break
            m *= DEEPER
            deeper = self._ordered(only_rows(parts, parts.users.take(short), short), entry, m)
            again = self._apply_list_rules(deeper, n)
            lists = _with_rows(lists, short, again)
            retrieved = _with_rows(retrieved, short, deeper)
        return lists

    def _dense(self, block: UserBatch, version: str) -> DenseParts:
        bundle = self.kit.bundles[version]
        if version not in self._statistics:
            self._statistics[version] = ItemStatistics.of(bundle)
        return dense_parts(block, bundle, self._statistics[version])

    def _ordered(self, parts: Parts, entry: Entry, m: int) -> Lists:
        """The best ``m`` items of stage 1, in their final order."""
        retrieved = self._retrieve(parts, entry.recipe, m)
        if not entry.recipe.re_ranks:
            return retrieved
        bundle = self.kit.rankings[entry.ranking_version]
        return rerank(retrieved, parts.users, bundle, entry.recipe, self.kit.as_of)

    def _retrieve(self, parts: Parts, recipe: Recipe, m: int) -> Lists:
        return retrieve(
            parts, self.kit, recipe,
            m=m, exclude_seen=self.rules.exclude_seen, scratch=self._scratch,
        )  # fmt: skip

    def _apply_list_rules(self, lists: Lists, n: int) -> Lists:
        return at_most_per_category(lists, self.kit.categories, self.rules.max_per_category, n)


def _with_rows(lists: Lists, rows: Ints, replacements: Lists) -> Lists:
    """The lists with those of ``rows`` replaced."""
    kept = np.ones(len(lists), dtype=bool)
    kept[rows] = False
    owners = np.concatenate([lists.rows[kept[lists.rows]], rows[replacements.rows]])
    order = np.argsort(owners, kind="stable")
    old = lists.where(kept[lists.rows])

    return Lists(
        np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(lists)))]),
        np.concatenate([old.item_nums, replacements.item_nums])[order],
        np.concatenate([old.scores, replacements.scores])[order],
        np.concatenate([old.sources, replacements.sources])[order],
    )
