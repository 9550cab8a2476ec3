"""The compiled stage 1 (select.cpp), where it has been built and this machine can run it.

Shape suffixes: B users, N catalogue (num_items + 1), D embedding width, M places of a list.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.compiled import load_library

LIBRARY = Path(__file__).with_name("libselect.so")
VERSION = 4
PADDING = 512
"""Floats beyond the last item of a row that the kernel may read: a block of items."""


ENTRY = np.dtype([("num", np.int32), ("value", np.float32)])
"""As in job.h."""

LARGEST = 1e38
"""Of float32, with room for rounding."""


class _Sparse(Structure):
    _fields_ = [
        ("offsets", c_void_p), ("nums", c_void_p), ("values", c_void_p), ("weight", c_double),
    ]  # fmt: skip


class _Events(Structure):
    _fields_ = [(name, c_void_p) for name in ("offsets", "nums", "values", "repeats")]


class _Together(Structure):
    _fields_ = [("offsets", c_void_p), ("entries", c_void_p)]


class _Numbers(Structure):
    _fields_ = [("offsets", c_void_p), ("nums", c_void_p)]


class _Job(Structure):
    """The fields of ``Job`` in job.h."""

    _fields_ = [
        *((name, c_int64) for name in ("num_users", "width", "known", "dim", "m")),
        *(
            (name, c_void_p)
            for name in (
                "scaled_BD", "user_BD", "mean_B", "inverse_spread_B", "item_vectors", "base_B",
                "share_B", "popular_weight_B", "margin_B",
            )
        ),
        ("model", c_double), ("decimals", c_double),
        ("history", _Events), ("similarity", _Sparse), ("transitions", _Sparse),
        ("together", _Together),
        ("seen", _Numbers), ("hidden", _Numbers), ("candidates", _Numbers),
        *((name, c_void_p) for name in ("nums", "scores", "sources", "lengths")),
        ("threads", c_int64),
    ]  # fmt: skip


class Matrix(NamedTuple):
    """A sparse matrix as the kernel reads it."""

    offsets: NDArray[np.int64]
    nums: NDArray[np.int32]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: csr_array) -> Matrix:
        """Without a copy of nums and values where they have these types."""
        return cls(
            matrix.indptr.astype(np.int64),
            np.ascontiguousarray(matrix.indices, dtype=np.int32),
            np.ascontiguousarray(matrix.data, dtype=np.float64),
        )


class Weighed(NamedTuple):
    matrix: Matrix
    weight: float


class Together(NamedTuple):
    """Matrices times their weights, added up in float32: what the first pass reads of them, in one go."""

    offsets: NDArray[np.int64]
    entries: NDArray[np.void]
    """Of ``ENTRY``: number and value side by side, so that a row is one stretch of memory."""

    @classmethod
    def of(cls, parts: Sequence[tuple[csr_array, float]]) -> Together:
        """Of matrices of one shape; those without a weight are left out."""
        added = csr_array(parts[0][0].shape)
        for matrix, weight in parts:
            if weight > 0:
                added = added + matrix * weight
        entries = np.empty(added.nnz, ENTRY)
        entries["num"], entries["value"] = added.indices, added.data
        return cls(added.indptr.astype(np.int64), entries)


class Flat(NamedTuple):
    """A list of item numbers for each user."""

    offsets: NDArray[np.int64]
    nums: NDArray[np.int32]

    def places(
        self, start: int, stop: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Rows, from ``start`` on, and numbers below ``width`` of the users up to ``stop``."""
        nums = self.nums[self.offsets[start] : self.offsets[stop]]
        rows = np.repeat(np.arange(stop - start), np.diff(self.offsets[start : stop + 1]))
        known = nums < width
        return rows[known], nums[known]


class Vectors(NamedTuple):
    """The dense part of scores: model * (user . item - mean) * inverse_spread."""

    scaled_BD: NDArray[np.float32]
    """What is multiplied in float32: model * inverse_spread * user."""
    user_BD: NDArray[np.float64]
    mean_B: NDArray[np.float64]
    inverse_spread_B: NDArray[np.float64]
    items: NDArray[np.float32]
    """(items that have a vector, D), in C order; may be memory-mapped."""
    model: float

    @property
    def at_the_mean_B(self) -> NDArray[np.float32]:
        """What an item without a vector has beside the others' products, which are short of the mean."""
        return (self.model * self.mean_B * self.inverse_spread_B).astype(np.float32)


Number = TypeVar("Number", bound=np.generic)


class Rows(Generic[Number]):
    """A row of numbers for each user; several users may have the same one."""

    def __init__(self, distinct: Sequence[NDArray[Number]], place_B: NDArray[np.int64]) -> None:
        self.distinct = distinct
        self.place_B = place_B

    def row(self, user: int) -> NDArray[Number]:
        row: NDArray[Number] = self.distinct[self.place_B[user]]
        return row

    def addresses(self) -> NDArray[np.int64]:
        """Of each user's row, in the memory of this process."""
        return np.array([row.ctypes.data for row in self.distinct], dtype=np.int64)[self.place_B]


class ItemItem(NamedTuple):
    history: Matrix
    repeats: NDArray[np.float64] | None
    """What each entry of the history adds to its own item; None: nothing."""
    similarity: Weighed
    transitions: Weighed
    together: Together


@dataclass(frozen=True)
class Asked:
    """A batch for the kernel. Arrays are in C order and of the types that are named."""

    width: int
    m: int
    margin_B: NDArray[np.float64]
    """Twice what a user's score in float32 may be off, item-item aside."""
    bases: Rows[np.float32]
    """Popularity before the rest is added, minus infinity where hidden; ``PADDING`` longer than N."""
    shares: Rows[np.float64]
    """Popularity before its weight; N."""
    popular_weight_B: NDArray[np.float64]
    vectors: Vectors | None = None
    item_item: ItemItem | None = None
    hidden: tuple[Flat, ...] = ()
    """At most two."""
    decimals: int | None = None
    """Scores are rounded before they are ranked; None: not."""
    candidates: Flat | None = None
    """Ascending for each user, from another first pass; None: the kernel finds them itself."""

    def __len__(self) -> int:
        return len(self.margin_B)


class Best(NamedTuple):
    """The first ``lengths_B`` places of each row are filled."""

    nums_BM: NDArray[np.int32]
    scores_BM: NDArray[np.float32]
    sources_BM: NDArray[np.int8]
    lengths_B: NDArray[np.int64]


@functools.cache
def library(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """The kernel; None, said once in the log, where it is missing, of another version or for other processors."""
    found = load_library(path, VERSION, "scoring_in_numpy")
    if found is None:
        return None
    found.select_top.argtypes, found.select_top.restype = [POINTER(_Job)], c_int
    return found


def select(kernel: ctypes.CDLL, asked: Asked, *, threads: int) -> Best:
    """The best ``m`` of each user by (score, smaller item number).

    Raises:
        MemoryError: the candidates do not fit.
    """
    m = min(asked.m, asked.width)
    shape = (len(asked), m)
    best = Best(
        np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.int8),
        np.zeros(len(asked), np.int64),
    )  # fmt: skip
    # Pointers go to the kernel, so what they point at is held by a name here until it returns.
    job = _Job(num_users=len(asked), width=asked.width, m=m, threads=threads)
    job.nums, job.scores = best.nums_BM.ctypes.data, best.scores_BM.ctypes.data
    job.sources, job.lengths = best.sources_BM.ctypes.data, best.lengths_B.ctypes.data
    bases_B, shares_B = asked.bases.addresses(), asked.shares.addresses()
    job.base_B, job.share_B = bases_B.ctypes.data, shares_B.ctypes.data
    job.popular_weight_B = asked.popular_weight_B.ctypes.data
    job.margin_B = asked.margin_B.ctypes.data
    job.decimals = 0 if asked.decimals is None else 10.0**asked.decimals
    if (vectors := asked.vectors) is not None:
        job.known, job.dim = min(len(vectors.items), asked.width), vectors.items.shape[1]
        job.scaled_BD, job.user_BD = vectors.scaled_BD.ctypes.data, vectors.user_BD.ctypes.data
        job.mean_B = vectors.mean_B.ctypes.data
        job.inverse_spread_B = vectors.inverse_spread_B.ctypes.data
        job.item_vectors, job.model = vectors.items.ctypes.data, vectors.model
    else:
        nothing_B = np.zeros(len(asked))
        job.inverse_spread_B = nothing_B.ctypes.data
    if asked.item_item is not None:
        history, repeats, similarity, transitions, together = asked.item_item
        job.history = _Events(
            history.offsets.ctypes.data, history.nums.ctypes.data, history.values.ctypes.data,
            None if repeats is None else repeats.ctypes.data,
        )  # fmt: skip
        job.similarity, job.transitions = _sparse(similarity), _sparse(transitions)
        job.together = _Together(together.offsets.ctypes.data, together.entries.ctypes.data)
    for name, flat in zip(("seen", "hidden"), asked.hidden, strict=False):
        setattr(job, name, _Numbers(flat.offsets.ctypes.data, flat.nums.ctypes.data))
    if (found := asked.candidates) is not None:
        job.candidates = _Numbers(found.offsets.ctypes.data, found.nums.ctypes.data)
    if kernel.select_top(ctypes.byref(job)):
        raise MemoryError(f"no memory for the candidates of {len(asked)} users")
    return best


def rounding(dim: int) -> float:
    """What a float32 product of two vectors may be off, as a share of the product of their norms."""
    return (dim + 4) * 2.0**-23


def in_float32(
    scaled_BD: NDArray[np.float64], largest: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """User vectors for the float32 pass, and what its products may be off where numbers leave float32's range.

    Too large: no user vector, and no bound, so that every item is scored again. Too small: the step of
    denormal numbers, for each of D terms.
    """
    fits_B = np.abs(scaled_BD).max(axis=1, initial=0.0) < LARGEST
    kept_BD = np.where(fits_B[:, None], scaled_BD, 0.0).astype(np.float32)
    return kept_BD, np.where(fits_B, scaled_BD.shape[1] * 2.0**-149 * max(largest, 1.0), np.inf)


def _sparse(part: Weighed) -> _Sparse:
    matrix = part.matrix
    return _Sparse(
        matrix.offsets.ctypes.data, matrix.nums.ctypes.data, matrix.values.ctypes.data, part.weight
    )
