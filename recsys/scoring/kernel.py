"""Stage 1: the best M items of each user, exact over the allowed catalogue.

Two passes. A float32 pass over the whole catalogue finds every item that can be among the best M, with
a bound on its own rounding; the few that pass are scored again in float64, pair by pair in a fixed
order, rounded to 6 decimals, and ranked by (score, smaller item number). So neither the batch, nor the
block, nor the BLAS, nor the number of threads decides an order. ``select`` has it compiled, ``plain`` in numpy,
``on_device`` the first pass on a GPU.

Shape suffixes: B users, D embedding width, N catalogue (num_items + 1), M places of a list.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recsys.errors import MissingInput
from recsys.records import Recipe
from recsys.scoring import plain
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists
from recsys.scoring.parts import DenseParts, Floats, Parts
from recsys.scoring.popular import Bases, Popular
from recsys.scoring.select import (
    Asked,
    Best,
    Flat,
    ItemItem,
    Matrix,
    Rows,
    Together,
    Vectors,
    Weighed,
    in_float32,
    library,
    select,
)

if TYPE_CHECKING:
    from recsys.scoring.on_device import OnDevice

DECIMALS = 6


class Retriever:
    """Finds the best items of users; keeps what batches share, so one per thread of the caller."""

    def __init__(
        self, kit: Kit, *, threads: int = 1, compiled: bool = True, device: str = "cpu"
    ) -> None:
        """``threads`` work on a batch. Not ``compiled``: in numpy, also where the kernel has been built.

        Raises:
            MissingInput: there is no such ``device``, or no kernel to rank what is found there.
        """
        self._kit = kit
        self._threads = threads
        self._kernel = library() if compiled else None
        self._finder = None if device == "cpu" else _on_device(device, self._kernel)
        self._bases = Bases(kit)
        self._added: tuple[tuple[float, ...], Together] | None = None

    def best(self, parts: Parts, recipe: Recipe, *, m: int, exclude_seen: bool) -> Lists:
        """The best ``m`` allowed items of each user, best first; shorter where fewer are allowed."""
        users = parts.users
        popular = Popular.of(users, self._kit, recipe, self._bases)
        hidden = [Flat(users.hidden_offsets, users.hidden_nums)]
        if exclude_seen:
            hidden.append(Flat(users.seen_offsets, users.seen_nums))
        vectors, off_B = None, np.zeros(len(users))
        if recipe.model > 0 and parts.dense is not None:
            vectors, off_B = _vectors(parts.dense, recipe.model)
            off_B += parts.dense.rounding * popular.weight_B  # popularity is in the product's sum
        margin_B = 2 * (off_B + 2.0**-20 * popular.weight_B) + 3 * 10.0**-DECIMALS
        asked = Asked(
            width=self._kit.width, m=m, margin_B=margin_B,
            bases=Rows(popular.bases, popular.base_B),
            shares=Rows(popular.shares, popular.share_B),
            popular_weight_B=popular.weight_B, vectors=vectors,
            item_item=self._item_item(parts, recipe), hidden=tuple(hidden), decimals=DECIMALS,
        )  # fmt: skip
        if self._kernel is None:
            return plain.best(asked)
        if self._finder is not None:
            asked = replace(asked, candidates=self._finder.candidates(asked))
        return _lists(select(self._kernel, asked, threads=self._threads))

    def _item_item(self, parts: Parts, recipe: Recipe) -> ItemItem | None:
        if parts.item_item is None or not recipe.uses_item_item:
            return None
        similarity, transitions = self._matrices
        history = Matrix.of(parts.item_item.history_BN)
        repeats = recipe.repeat * history.values + recipe.due * parts.item_item.chance_BN.data
        return ItemItem(
            history,
            repeats if recipe.repeat > 0 or recipe.due > 0 else None,
            Weighed(similarity, recipe.similarity),
            Weighed(transitions, recipe.transitions),
            self._together(recipe.similarity, recipe.transitions),
        )

    def _together(self, *weights: float) -> Together:
        """Kept for the weights asked last: a job has one recipe, or one after the other."""
        if self._added is None or self._added[0] != weights:
            matrices = self._kit.similarity, self._kit.transitions
            self._added = weights, Together.of(list(zip(matrices, weights, strict=True)))
        return self._added[1]

    @cached_property
    def _matrices(self) -> tuple[Matrix, Matrix]:
        return Matrix.of(self._kit.similarity), Matrix.of(self._kit.transitions)


def _on_device(device: str, kernel: ctypes.CDLL | None) -> OnDevice:
    if kernel is None:
        raise MissingInput(
            f"scoring.device is {device}, and the compiled kernel that ranks what is found there is missing: "
            "`make setup` builds it"
        )
    # torch is seconds and 200 MB that a worker without a GPU has no use for.
    from recsys.scoring.on_device import OnDevice  # noqa: PLC0415

    return OnDevice(device)


def _vectors(dense: DenseParts, model: float) -> tuple[Vectors, Floats]:
    """What the kernel multiplies, and what the products may be off in float32."""
    factor_B = model * dense.inverse_spread_B
    scaled_BD, slack_B = in_float32(factor_B[:, None] * dense.user_BD, dense.largest_norm)
    vectors = Vectors(
        scaled_BD, np.ascontiguousarray(dense.user_BD), dense.mean_B, dense.inverse_spread_B,
        np.ascontiguousarray(dense.item_vectors), model,
    )  # fmt: skip
    return vectors, model * dense.error_B + slack_B


def _lists(best: Best) -> Lists:
    offsets = np.concatenate([[0], np.cumsum(best.lengths_B)])
    filled = np.arange(best.nums_BM.shape[1]) < best.lengths_B[:, None]
    if filled.all():
        return Lists(offsets, best.nums_BM.ravel(), best.scores_BM.ravel(), best.sources_BM.ravel())
    return Lists(offsets, best.nums_BM[filled], best.scores_BM[filled], best.sources_BM[filled])
