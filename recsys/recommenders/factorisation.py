"""Implicit matrix factorisation on Spark; users are folded in from their histories.

Shape suffixes: B users of a batch, H events of a user, D width, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import MissingInput
from recsys.recommenders.histories import by_recency, times, whether_had
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Scores, Shop, Users


@dataclass(frozen=True)
class Factors:
    items: Floats
    """(N, D); zeros for an item that nobody had."""


@dataclass
class Factorisation(Kept[Factors]):
    """Spark MLlib's implicit ALS (Hu, Koren & Volinsky, ICDM 2008; the regularisation grows with a row's events).

    Only the items' factors are kept. A user's are solved from the history that he is asked with, fitted or not, so that
    a grown history counts, and newer events count more.
    """

    width: int = 64
    iterations: int = 12
    regularisation: float = 0.05
    confidence: float = 20.0
    """What an event adds to the confidence of 1 that a cell without events has."""
    decay: float = 0.8

    name: ClassVar[str] = "factorisation"
    about: ClassVar[str] = "implicit matrix factorisation (Spark MLlib's ALS)"
    learns = Factors

    def fit(self, shop: Shop) -> Self:
        if shop.spark is None:
            raise MissingInput(
                f"{self.name} is fitted on Spark, this shop came without a session: run it as a job, or leave it out"
            )
        from pyspark.ml.recommendation import ALS  # noqa: PLC0415  # pyspark is wanted by this fit alone

        had = whether_had(shop.histories, shop.num_items).tocoo()
        factors = np.zeros((shop.width, self.width))
        if had.nnz:
            cells = pa.table(
                {
                    "user_num": pa.array(had.row.astype(np.int32)),
                    "item_num": pa.array(had.col.astype(np.int32)),
                    "weight": pa.array(had.data.astype(np.float32)),
                }
            )
            model = ALS(
                rank=self.width,
                maxIter=self.iterations,
                regParam=self.regularisation,
                alpha=self.confidence,
                implicitPrefs=True,
                seed=shop.seed,
                userCol="user_num",
                itemCol="item_num",
                ratingCol="weight",
                numUserBlocks=shop.threads,
                numItemBlocks=shop.threads,
            ).fit(shop.spark.createDataFrame(cells))
            found = model.itemFactors.toArrow()  # a row per item: the catalogue bounds it
            rows = found.column("features").combine_chunks()
            factors[found.column("id").to_numpy()] = (
                rows.flatten().to_numpy().reshape(-1, self.width)
            )
        self.learned = Factors(factors)
        return self

    def scores(self, users: Users) -> Scores:
        items = self.learned.items
        return times(self._users(users), np.ascontiguousarray(items.T)).astype(np.float32)

    def _users(self, users: Users) -> Floats:
        """(B, D), as ALS solves them. Users of one length at a time: every product then has one user's shape."""
        items = self.learned.items
        weights = by_recency(users.histories, len(items), self.decay)
        lengths = np.diff(weights.indptr)
        whole = items.T @ items
        found = np.zeros((len(users), items.shape[1]))
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            places = weights.indptr[rows][:, None] + np.arange(length)
            vectors_BHD = items[weights.indices[places]]
            found[rows] = self._solved(whole, vectors_BHD, weights.data[places].astype(np.float64))
        return found

    def _solved(
        self, whole: Floats, vectors_BHD: Floats, weights_BH: NDArray[np.float64]
    ) -> Floats:
        surplus_BH1 = self.confidence * weights_BH[:, :, None]
        turned_BDH = np.ascontiguousarray(vectors_BHD.transpose(0, 2, 1))
        left = np.matmul(turned_BDH, surplus_BH1 * vectors_BHD) + whole
        left += self.regularisation * vectors_BHD.shape[1] * np.eye(len(whole))
        right = np.matmul(turned_BDH, 1 + surplus_BH1)
        found: Floats = np.linalg.solve(left, right)[:, :, 0]
        return found
