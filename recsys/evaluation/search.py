"""Choose the blend's weights, and whether stage 2 helps it, on a sample of users of the choosing window.

What recipes share (user vectors, history times matrices) is computed once per block; a candidate then
costs one pass of stage 1.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import structlog
from pyspark.sql import DataFrame

from recsys.config.sections import GATE_K
from recsys.errors import Refused
from recsys.evaluation.block import KINDS, values_of_lists
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import (
    BLEND,
    FILL,
    ITEM_ITEM,
    LAST_PURCHASES,
    MODEL,
    POPULARITY,
    REPEAT_PURCHASE,
    TRANSITIONS,
)
from recsys.records import Recipe
from recsys.scoring.lists import joined
from recsys.scoring.parts import DenseParts, Fading, ItemItemParts
from recsys.scoring.scorer import Entry, Scorer
from recsys.scoring.users import Signals, batch_from_arrow

log = structlog.get_logger()

DECAYS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)
WEIGHTS: dict[str, tuple[float, ...]] = {
    "decay": DECAYS,
    "repeat": (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
    "due": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0),
    "model": (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5),
    "transitions": (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0),
    "similarity": (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0),
    "popularity": (FILL, 0.1, 0.3, 1.0, 2.0),
}
"""Values that a coordinate takes; coordinates are searched in this order."""

STARTS = (
    Recipe(name=BLEND, model=0.5, similarity=0.4, transitions=0.6, repeat=0.5, popularity=0.1, decay=0.95),
    Recipe(name=BLEND, model=0.5, similarity=0.4, transitions=0.6, popularity=0.1, decay=0.7),
    ITEM_ITEM, TRANSITIONS, REPEAT_PURCHASE, POPULARITY, MODEL.model_copy(update={"popularity": FILL}),
)  # fmt: skip
MOST_ROUNDS = 4
RERANKS = (50, 200)
RERANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
"""What stage 2 is tried with; against weight 0, which is to do without."""

HISTORIES_KEPT = 2
"""So many ``Fading``s keep their parts of the sample's histories, the least lately used go: each has an entry for
every event."""


@dataclass(frozen=True)
class Chosen:
    """What the choosing window decided."""

    blend: Recipe
    last_purchases: Recipe
    ndcg: float
    """Of the blend, on the sample."""
    tried: int
    other: Recipe | None = None
    """Where there is a ranking model: the blend without stage 2 if it re-ranks, else the best that does."""


def sampled(
    measured: DataFrame, num_users: int, *, cut_off: date, window_days: int
) -> pa.RecordBatch:
    """At most so many of ``targets.measured_users`` of the window from ``cut_off`` on, by their hash.

    Raises:
        Refused: nobody is measured there.
    """
    sample = measured.orderBy("sample_order", "user_id").limit(num_users)
    batches = sample.orderBy("user_id").toArrow().combine_chunks().to_batches()
    if not batches:
        raise Refused(
            f"nobody to choose on: no user has a history before {cut_off} and a target in the {window_days} days "
            "after it. Nothing was written; check the run date and what ingest took in"
        )
    return batches[0]


class BlendSearch:
    """Compares recipes by NDCG@10 over all purchases of sampled users; remembers what it has seen."""

    def __init__(
        self,
        scorer: Scorer,
        users: pa.RecordBatch,
        signals: Signals,
        model_version: str,
        ranking_version: str = "",
    ) -> None:
        """``users`` has the columns of ``targets.measured_users``; the versions are models of the scorer's kit."""
        self._scorer = scorer
        self._users = users
        self._model_version = model_version
        self._ranking_version = ranking_version
        self._blocks = scorer.blocks(batch_from_arrow(users, signals, scorer.kit.segments))
        self._dense: list[dict[str, DenseParts]] = [{} for _ in self._blocks]
        self._item_item: OrderedDict[Fading, list[ItemItemParts]] = OrderedDict()
        self._seen: dict[str, float] = {}

    def ndcg(self, recipe: Recipe) -> float:
        """Mean NDCG@10 over the sample."""
        key = recipe.model_copy(update={"name": ""}).model_dump_json()
        if key not in self._seen:
            entry = Entry(recipe, self._model_version, self._ranking_version)
            lists = joined([
                self._scorer.lists_of_parts(
                    self._scorer.parts(block, entry, self._dense[b], self._products(b, recipe)),
                    entry, GATE_K,
                )
                for b, block in enumerate(self._blocks)
            ])  # fmt: skip
            values = values_of_lists(lists, self._users, (GATE_K,))
            self._seen[key] = float(
                np.mean(values[:, KINDS.index("all"), METRICS.index("ndcg"), 0])
            )
        return self._seen[key]

    def best(self) -> Chosen:
        """The best start, then coordinate by coordinate until a round brings nothing.

        Ties keep what came first, so that the search is the same every time.
        """
        last_purchases = self._best_of([
            LAST_PURCHASES.model_copy(update={"decay": decay}) for decay in DECAYS
        ])  # fmt: skip
        repeats = [
            last_purchases.model_copy(update={"targets_only": only}) for only in (False, True)
        ]
        blend = self._best_of([*STARTS, *repeats])
        for _ in range(MOST_ROUNDS):
            before = self.ndcg(blend)
            for name, values in WEIGHTS.items():
                tries = [blend.model_copy(update={name: value}) for value in values]
                blend = self._best_of([blend, *tries])
            other = blend.model_copy(update={"targets_only": not blend.targets_only})
            blend = self._best_of([blend, other])
            log.info("blend_search", ndcg_at_10=round(self.ndcg(blend), 5), tried=len(self._seen))
            if self.ndcg(blend) <= before:
                break
        blend = blend.model_copy(update={"name": BLEND})
        chosen = Chosen(blend, last_purchases, self.ndcg(blend), len(self._seen))
        return self._with_stage_two(chosen) if self._ranking_version else chosen

    def _with_stage_two(self, chosen: Chosen) -> Chosen:
        """Whether the ranking model helps the blend, whose weights stay: a tie does without."""
        alone = chosen.blend
        best = self._best_of([
            alone.model_copy(update={"rerank": m, "rerank_weight": weight})
            for m in RERANKS
            for weight in RERANK_WEIGHTS
        ])  # fmt: skip
        blend = self._best_of([alone, best])
        other = alone if blend is best else best
        log.info(
            "stage_two_tried", rerank=best.rerank, rerank_weight=best.rerank_weight, chosen=blend is best,
            ndcg_at_10=round(self.ndcg(best), 5), ndcg_at_10_without=round(self.ndcg(alone), 5),
        )  # fmt: skip
        return replace(
            chosen, blend=blend, ndcg=self.ndcg(blend), tried=len(self._seen), other=other
        )

    def _best_of(self, recipes: list[Recipe]) -> Recipe:
        return max(recipes, key=self.ndcg)  # the first of equals

    def _products(self, b: int, recipe: Recipe) -> dict[Fading, ItemItemParts]:
        """The block's cache for this recipe's ``Fading``; ``Scorer.parts`` looks there."""
        if not recipe.uses_item_item:
            return {}
        key = Fading.of(recipe)
        if key not in self._item_item:
            made = []
            for block in self._blocks:
                cache: dict[Fading, ItemItemParts] = {}
                self._scorer.parts(
                    block, Entry(recipe.model_copy(update={"model": 0.0})), {}, cache
                )
                made.append(cache[key])
            self._item_item[key] = made
        self._item_item.move_to_end(key)
        while len(self._item_item) > HISTORIES_KEPT:
            self._item_item.popitem(last=False)
        return {key: self._item_item[key][b]}
