"""Lists for any number of users: stage 1 in blocks, stage 2 where the recipe re-ranks, then the list rules.

The one path to every list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.errors import MissingInput
from recsys.records import Recipe
from recsys.scoring.kernel import Retriever
from recsys.scoring.kit import Kit
from recsys.scoring.list_rules import AtMost, Limited, longest_list, under_list_rules
from recsys.scoring.lists import Lists, joined
from recsys.scoring.parts import (
    DenseParts,
    Fading,
    ItemItemParts,
    ItemStatistics,
    Parts,
    dense_parts,
    item_item_parts,
    only_rows,
)
from recsys.scoring.stage_two import rerank
from recsys.scoring.users import UserBatch

DEEPER = 4
"""When a rule leaves a list short, M grows by this factor."""


@dataclass(frozen=True)
class Rules:
    """What the shop decides, whatever the recommender."""

    exclude_seen: bool = False
    max_per: tuple[tuple[str, int], ...] = ()
    """At most so many items of one group in a list: names of the kit's groups and limits above 0, in the order
    in which an item that several keep out is counted."""


@dataclass(frozen=True)
class Entry:
    """One recommender: a recipe, and the models it uses."""

    recipe: Recipe
    model_version: str = ""
    """A model of the kit; empty where the recipe gives the model no weight."""
    ranking_version: str = ""
    """A ranking model of the kit; empty where the recipe does not re-rank."""


class Scorer:
    """Scores users with the kit; keeps what batches share, so one per thread of the caller."""

    def __init__(
        self, kit: Kit, rules: Rules, *, batch_users: int = 1024, threads: int = 1, compiled: bool = True,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        """``threads`` work on stage 1: one in a Spark worker, which has a core to itself."""
        self.kit = kit
        self.rules = rules
        self.batch_users = batch_users
        self._limits = [AtMost(kit.groups[name], most) for name, most in rules.max_per]
        self._longest = longest_list(kit.allowed, self._limits)
        self._retriever = Retriever(kit, threads=threads, compiled=compiled, device=device)
        self._statistics: dict[str, ItemStatistics] = {}

    def lists(self, users: UserBatch, entry: Entry, n: int) -> Lists:
        """The ``n`` best items of each user under the rules; shorter where fewer are allowed.

        Raises:
            CorruptArtifact: the encoder or the ranking model gave NaN or infinity.
        """
        [lists] = self.lists_by_entry(users, (entry,), n)
        return lists

    def limited(self, users: UserBatch, entry: Entry, n: int) -> Limited:
        """``lists``, with what the list rules left out."""
        done = [
            self.limited_of_parts(self.parts(block, entry, {}, {}), entry, n)
            for block in self.blocks(users)
        ]
        return Limited(
            joined([one.lists for one in done]),
            np.concatenate(
                [
                    np.zeros((0, len(self.rules.max_per)), dtype=np.int64),
                    *(one.left_out_BR for one in done),
                ]
            ),
        )

    def lists_by_entry(self, users: UserBatch, entries: tuple[Entry, ...], n: int) -> list[Lists]:
        """``lists`` for several recommenders, sharing what they have in common."""
        blocks: list[list[Lists]] = [[] for _ in entries]
        for block in self.blocks(users):
            dense: dict[str, DenseParts] = {}
            item_item: dict[Fading, ItemItemParts] = {}
            for entry, done in zip(entries, blocks, strict=True):
                parts = self.parts(block, entry, dense, item_item)
                done.append(self.lists_of_parts(parts, entry, n))
        return [joined(done) for done in blocks]

    def blocks(self, users: UserBatch) -> list[UserBatch]:
        """The users in batches."""
        starts = range(0, len(users), self.batch_users)
        return [users.slice(start, min(start + self.batch_users, len(users))) for start in starts]

    def parts(
        self,
        block: UserBatch,
        entry: Entry,
        dense: dict[str, DenseParts],
        item_item: dict[Fading, ItemItemParts],
    ) -> Parts:
        """What ``entry`` weighs, taken from the two caches of this block or put there.

        Raises:
            MissingInput: the recipe weighs what is due, and nothing says when items are.
        """
        recipe, version = entry.recipe, entry.model_version
        check_reorders(recipe, self.kit)
        if recipe.model > 0 and version not in dense:
            dense[version] = self._dense(block, version)
        fading = Fading.of(recipe)
        if recipe.uses_item_item and fading not in item_item:
            item_item[fading] = item_item_parts(block, self.kit, fading)
        return Parts(
            block,
            dense[version] if recipe.model > 0 else None,
            item_item[fading] if recipe.uses_item_item else None,
        )

    def lists_of_parts(self, parts: Parts, entry: Entry, n: int) -> Lists:
        """Stage 1, stage 2 where the recipe re-ranks, then the list rules, for one block."""
        return self.limited_of_parts(parts, entry, n).lists

    def limited_of_parts(self, parts: Parts, entry: Entry, n: int) -> Limited:
        """``lists_of_parts``, with what the list rules left out."""
        limits = bool(self.rules.max_per)
        if limits:
            n = min(n, max(self._longest, 1))
        m = 2 * n if limits else n
        if entry.recipe.re_ranks:
            m = max(m, entry.recipe.rerank)
        retrieved = self._ordered(parts, entry, m)
        found = self._under_list_rules(retrieved, n)
        while limits and m < self.kit.width:
            # Only a list that was cut at M can have more to give.
            short = np.flatnonzero((found.lists.lengths < n) & (retrieved.lengths == m))
            if not len(short):
                break
            m *= DEEPER
            deeper = self._ordered(only_rows(parts, parts.users.take(short), short), entry, m)
            found = found.with_rows(short, self._under_list_rules(deeper, n))
            retrieved = retrieved.with_rows(short, deeper)
        return found

    def _dense(self, block: UserBatch, version: str) -> DenseParts:
        bundle = self.kit.bundles[version]
        if version not in self._statistics:
            self._statistics[version] = ItemStatistics.of(bundle)
        return dense_parts(block, bundle, self._statistics[version])

    def _ordered(self, parts: Parts, entry: Entry, m: int) -> Lists:
        """The best ``m`` items of stage 1, in their final order."""
        retrieved = self._retriever.best(
            parts, entry.recipe, m=m, exclude_seen=self.rules.exclude_seen
        )
        if not entry.recipe.re_ranks:
            return retrieved
        bundle = self.kit.rankings[entry.ranking_version]
        return rerank(retrieved, parts.users, bundle, entry.recipe, self.kit.as_of)

    def _under_list_rules(self, lists: Lists, n: int) -> Limited:
        return under_list_rules(lists, self._limits, n)


def check_reorders(recipe: Recipe, kit: Kit) -> None:
    """Raises MissingInput where the recipe weighs what is due, and nothing says when items are."""
    if recipe.due > 0 and kit.reorders is None:
        raise MissingInput(
            f"no re-order intervals as of {kit.as_of}, which {recipe.name} weighs: run build_candidates again for this "
            "run date (the table reorder_intervals came later than the others)"
        )
