"""What a worker says of each user's list apart from whether it was right; the definitions are in ``list_quality``.

Shape suffixes: B users, K list places, Q figures, C cut-offs, N catalogue (num_items + 1), D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.list_quality import (
    Floats,
    Ints,
    ItemNums,
    category_diversity,
    novelty,
    popularities,
    repeat_share,
    vector_diversity,
)
from recsys.recommenders.shop import Histories
from recsys.scoring.kit import Kit
from recsys.scoring.users import UserBatch

LISTED, HAD = "popularity_of_list", "popularity_of_history"
"""The two of which the popularity lift is made."""

FIGURES = ("category_diversity", "vector_diversity", "novelty", "repeat_share", LISTED, HAD)


@dataclass(frozen=True)
class Catalogue:
    """What the figures look up by item number, as of the cut-off."""

    category_N: Ints
    """0 for none."""
    num_buyers_N: Ints
    num_buyers: int
    """Of anything; at least as many as of any item."""
    vectors_ND: NDArray[np.float32] | None
    """Of the model that is measured, whoever made the lists: figures are compared. None where it is not loaded."""

    @classmethod
    def of(cls, kit: Kit, num_buyers: int, vectors_of: str) -> Catalogue:
        """``num_buyers`` bought anything in the popularity window; ``vectors_of`` is a version of the kit's models."""
        num_buyers_N = kit.buyers[[0]].toarray()[0].astype(np.int64)
        bundle = kit.bundles.get(vectors_of)
        category = kit.groups.get("category", np.full(kit.width, -1))
        return cls(
            category.astype(np.int64) + 1,
            num_buyers_N,
            max(num_buyers, int(num_buyers_N.max(initial=1))),
            None if bundle is None else bundle.item_vectors,
        )

    def figures(self, lists_BK: ItemNums, users: UserBatch, ks: Sequence[int]) -> Floats:
        """(B, Q, C) in the order of ``FIGURES`` and ``ks``; NaN where there is nothing to say of a user."""
        had = Histories(users.history_offsets, users.history_nums)
        return np.stack([self._of_places(lists_BK[:, :k], had) for k in ks], axis=2)

    def _of_places(self, lists_BK: ItemNums, had: Histories) -> Floats:
        popularity_N = self.num_buyers_N / self.num_buyers
        return np.column_stack([
            category_diversity(lists_BK, self.category_N),
            self._vector_diversity(lists_BK),
            novelty(lists_BK, self.num_buyers_N, self.num_buyers),
            repeat_share(lists_BK, had),
            popularities(lists_BK, had, popularity_N),
        ])  # fmt: skip

    def _vector_diversity(self, lists_BK: ItemNums) -> Floats:
        if self.vectors_ND is None:
            return np.full(len(lists_BK), np.nan)
        known_BK = np.where(lists_BK < len(self.vectors_ND), lists_BK, 0)
        return vector_diversity(known_BK, self.vectors_ND)
