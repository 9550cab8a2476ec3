"""Candidates that need no training: item-item similarity, transitions, re-order intervals, popularity."""

from __future__ import annotations

from recsys.candidates.day import sequences_of_day, tables_of_day
from recsys.candidates.popularity import popularity
from recsys.candidates.reorders import reorder_intervals
from recsys.candidates.sequences import sequences
from recsys.candidates.similarity import item_similarity
from recsys.candidates.transitions import transitions

__all__ = [
    "item_similarity",
    "popularity",
    "reorder_intervals",
    "sequences",
    "sequences_of_day",
    "tables_of_day",
    "transitions",
]
