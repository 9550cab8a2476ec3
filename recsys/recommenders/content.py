"""Items like those that the user had, by what items are.

Shape suffixes: A attributes, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from recsys.errors import MissingInput
from recsys.recommenders.histories import (
    by_recency,
    dense,
    fill,
    scaled_columns,
    scaled_rows,
    single,
)
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Scores, Shop, Users


@dataclass(frozen=True)
class ItemVectors:
    vectors: csr_array
    """(N, A) float32, of length 1; of 0 for an item without attributes."""
    fill: Scores
    """(N,)"""


@dataclass
class Content(Kept[ItemVectors]):
    """TF-IDF of attributes; a user is the sum of what he had, faded by recency. Works for items never bought."""

    decay: float = 0.8

    name: ClassVar[str] = "content"
    about: ClassVar[str] = "items with the attributes of those that the user had"
    learns = ItemVectors

    def fit(self, shop: Shop) -> Self:
        if shop.attributes is None:
            raise MissingInput(
                f"{self.name} needs to know what items are: the shop has no attributes; leave it out, or give them"
            )
        vectors = tf_idf(shop.attributes)
        self.learned = ItemVectors(single(vectors), fill(shop))
        return self

    def scores(self, users: Users) -> Scores:
        learned = self.learned
        history = by_recency(users.histories, len(learned.fill), self.decay)
        tastes = csr_array(history @ learned.vectors)
        return dense(tastes @ learned.vectors.T.tocsr()) + learned.fill


def tf_idf(attributes: csr_array) -> csr_array:
    """(N, A) float64, rows of length 1: what few items have says most (Salton & Buckley, 1988)."""
    items_with = np.asarray((attributes != 0).sum(axis=0), dtype=np.float64)
    num_items = attributes.shape[0] - 1
    rarity = np.log((1.0 + num_items) / (1.0 + items_with)) + 1.0
    weighted = scaled_columns(csr_array(attributes, dtype=np.float64), rarity)
    lengths = np.sqrt(np.asarray((weighted * weighted).sum(axis=1)))
    return scaled_rows(weighted, 1.0 / np.where(lengths > 0, lengths, 1.0))
