"""What the score of a batch of users is made of, before a recipe weighs it.

Shape suffixes: B users, D embedding width, N catalogue (num_items + 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.candidates.reorders import pairs_of
from recsys.records import Recipe
from recsys.scoring.bundle import ModelBundle
from recsys.scoring.kit import Kit
from recsys.scoring.select import rounding
from recsys.scoring.users import UserBatch

Floats = NDArray[np.float64]

BLOCK = 1 << 16
"""Items whose vectors are held in float64 at a time."""
SMALLEST_SPREAD = 1e-9
"""A user whose scores spread less than this share of |u| * |v| is indifferent: z is 0."""


@dataclass(frozen=True)
class DenseParts:
    """User vectors against item vectors, and what z-scores need. All of it is computed row by row in
    a fixed order, so nothing depends on who else is in the batch."""

    user_BD: Floats
    item_vectors: NDArray[np.float32]
    mean_B: Floats
    inverse_spread_B: Floats
    """1 / standard deviation over the items that have a vector; 0 for an indifferent user."""
    error_B: Floats
    """Bound on what a float32 product may be off, in units of z."""
    largest_norm: float
    """Of the item vectors."""

    @property
    def rounding(self) -> float:
        return rounding(self.user_BD.shape[1])


@dataclass(frozen=True)
class ItemItemParts:
    history_BN: csr_array
    """The history, decayed: stage 1 multiplies it with the item-item matrices. Values are >= 0."""
    chance_BN: csr_array
    """With the history's entries: that the user takes the item again, at the newest of each; 0 at the others."""

    def rows(self, rows: NDArray[np.int64]) -> ItemItemParts:
        return ItemItemParts(self.history_BN[rows], self.chance_BN[rows])


@dataclass(frozen=True)
class Parts:
    """Everything that a recipe weighs, for B users."""

    users: UserBatch
    dense: DenseParts | None
    item_item: ItemItemParts | None


@dataclass(frozen=True)
class ItemStatistics:
    """Mean and covariance over the items that have a vector; once per model."""

    mean_D: Floats
    covariance_DD: Floats
    largest_norm: float

    @classmethod
    def of(cls, bundle: ModelBundle) -> ItemStatistics:
        vectors_ND, width = bundle.item_vectors[1:], bundle.manifest.embedding_dim
        mean_D, covariance_DD, largest = np.zeros(width), np.zeros((width, width)), 0.0
        for block in _in_float64(vectors_ND):
            mean_D += block.sum(axis=0) / len(vectors_ND)
            largest = max(largest, float(np.einsum("id,id->i", block, block).max()))
        for block in _in_float64(vectors_ND):
            centred = block - mean_D
            covariance_DD += centred.T @ centred / len(vectors_ND)
        return cls(mean_D, covariance_DD, math.sqrt(largest))


def _in_float64(vectors_ND: NDArray[np.float32]) -> Iterator[Floats]:
    """Block by block: of a catalogue that a memory-mapped file holds, no worker makes a copy."""
    for start in range(0, len(vectors_ND), BLOCK):
        yield vectors_ND[start : start + BLOCK].astype(np.float64)


def dense_parts(users: UserBatch, bundle: ModelBundle, statistics: ItemStatistics) -> DenseParts:
    """Encode B users.

    Raises:
        CorruptArtifact: the encoder gave NaN or infinity.
    """
    manifest = bundle.manifest
    item_nums_BH, gaps_BH = users.padded(manifest.history_length, manifest.num_items)
    user_BD = bundle.encoder.encode(bundle.item_vectors, item_nums_BH, gaps_BH).astype(np.float64)
    # einsum without BLAS: a row's sum has the same order whatever the batch.
    projected_BD = np.einsum("bd,de->be", user_BD, statistics.covariance_DD)
    variance_B = np.einsum("bd,bd->b", projected_BD, user_BD)
    spread_B = np.sqrt(np.maximum(variance_B, 0))
    size_B = np.sqrt(np.einsum("bd,bd->b", user_BD, user_BD)) * statistics.largest_norm
    differs_B = spread_B > SMALLEST_SPREAD * size_B
    inverse_B = np.divide(1.0, spread_B, out=np.zeros_like(spread_B), where=differs_B)
    return DenseParts(
        user_BD=user_BD,
        item_vectors=bundle.item_vectors,
        mean_B=np.einsum("bd,d->b", user_BD, statistics.mean_D),
        inverse_spread_B=inverse_B,
        error_B=rounding(user_BD.shape[1]) * size_B * inverse_B,
        largest_norm=statistics.largest_norm,
    )


class Fading(NamedTuple):
    """All that decides the parts of a history: recipes that agree in it share them."""

    decay: float
    targets_only: bool
    asks_due: bool
    """Whether the chances are asked for, whatever weight ``Recipe.due`` gives them."""

    @classmethod
    def of(cls, recipe: Recipe) -> Fading:
        return cls(recipe.decay, recipe.targets_only, recipe.due > 0)


def item_item_parts(users: UserBatch, kit: Kit, fading: Fading) -> ItemItemParts:
    """The decayed history and what is due, for a recipe that uses them.

    Row: user; an entry per event, oldest first: weight(type) * decay^(places to the newest event).
    """
    counts = np.diff(users.history_offsets)
    rows = np.repeat(np.arange(len(users)), counts)
    places_to_newest = users.history_offsets[1:][rows] - 1 - np.arange(len(rows))
    weights = np.power(fading.decay, places_to_newest) * users.event_weights
    known = (users.history_nums > 0) & (users.history_nums < kit.width)
    chances = np.zeros(len(rows))
    if fading.asks_due and kit.reorders is not None:
        [bought] = np.nonzero(known & users.is_target)
        pairs = pairs_of(rows[bought], users.history_nums[bought], -users.ages_days[bought])
        chances[bought[pairs.last]] = kit.reorders.chances(pairs, today=0.0)
    kept = known & ((weights > 0) | (chances > 0))
    if fading.targets_only:
        kept &= users.is_target
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(users)))])
    places = users.history_nums[kept], offsets.astype(np.int32)
    shape = (len(users), kit.width)
    return ItemItemParts(
        csr_array((weights[kept], *places), shape=shape),
        csr_array((chances[kept], *places), shape=shape),
    )


def only_rows(parts: Parts, users: UserBatch, rows: NDArray[np.int64]) -> Parts:
    """The parts of some of the users; ``users`` is the batch of them."""
    dense = parts.dense
    if dense is not None:
        dense = replace(
            dense, user_BD=dense.user_BD[rows], mean_B=dense.mean_B[rows],
            inverse_spread_B=dense.inverse_spread_B[rows], error_B=dense.error_B[rows],
        )  # fmt: skip
    return Parts(users, dense, None if parts.item_item is None else parts.item_item.rows(rows))
