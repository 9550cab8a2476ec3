"""Everything that is built as of a day, by table."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame

from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.features.histories import histories
from recsys.features.items import item_features
from recsys.features.seen import seen_items
from recsys.features.users import user_features


def tables_of_day(
    events: DataFrame,
    items: DataFrame,
    users: DataFrame,
    vocabulary: DataFrame,
    *,
    config: RecsysConfig,
    as_of: date,
) -> dict[t.TableContract, DataFrame]:
    """The four tables of ``as_of``; ``vocabulary`` is that day's version."""
    return {
        t.USER_FEATURES: user_features(events, users, as_of=as_of),
        t.ITEM_FEATURES: item_features(events, items, vocabulary, as_of=as_of),
        t.HISTORIES: histories(
            events, users, vocabulary, as_of=as_of, shop=config.shop,
            max_history=config.features.max_history,
            max_user_events_90d=config.candidates.max_user_events_90d,
        ),
        t.SEEN_ITEMS: seen_items(events, vocabulary, as_of=as_of, shop=config.shop),
    }  # fmt: skip
