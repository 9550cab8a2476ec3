"""Point-in-time features, histories and numbers: pure functions from tables to tables, all as of a day, exclusive."""

from __future__ import annotations

from recsys.features.day import tables_of_day
from recsys.features.histories import histories
from recsys.features.items import item_features
from recsys.features.quality import capped_users
from recsys.features.seen import seen_items
from recsys.features.training_examples import count_examples, row_group_bytes, training_examples
from recsys.features.users import user_features
from recsys.features.vocabularies import vocabularies

__all__ = [
    "capped_users",
    "count_examples",
    "histories",
    "item_features",
    "row_group_bytes",
    "seen_items",
    "tables_of_day",
    "training_examples",
    "user_features",
    "vocabularies",
]
