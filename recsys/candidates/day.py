"""Everything that is built as of a day, by table."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame

from recsys import contracts as t
from recsys.candidates.popularity import popularity
from recsys.candidates.reorders import reorder_intervals
from recsys.candidates.sequences import sequences
from recsys.candidates.similarity import item_similarity
from recsys.candidates.transitions import transitions
from recsys.config import RecsysConfig


def sequences_of_day(
    events: DataFrame,
    histories: DataFrame,
    vocabulary: DataFrame,
    *,
    config: RecsysConfig,
    as_of: date,
) -> DataFrame:
    """What the pairs of ``as_of`` come from; read twice, so worth keeping."""
    return sequences(
        events, histories, vocabulary, as_of=as_of, shop=config.shop,
        max_user_items=config.candidates.max_user_items,
    )  # fmt: skip


def tables_of_day(
    units: DataFrame,
    events: DataFrame,
    histories: DataFrame,
    vocabulary: DataFrame,
    *,
    config: RecsysConfig,
    as_of: date,
) -> dict[t.TableContract, DataFrame]:
    """The four tables of ``as_of``; ``units`` is ``sequences_of_day``."""
    conf = config.candidates
    return {
        t.ITEM_SIMILARITY: item_similarity(
            units, vocabulary, as_of=as_of, shrinkage=conf.shrinkage, neighbours=conf.neighbours
        ),
        t.TRANSITIONS: transitions(
            units, vocabulary, as_of=as_of, gaps=conf.transition_gaps,
            shrinkage=conf.transition_shrinkage, neighbours=conf.neighbours,
        ),
        t.REORDER_INTERVALS: reorder_intervals(
            histories, vocabulary, as_of=as_of, shop=config.shop
        ),
        t.POPULARITY: popularity(
            events, histories, vocabulary, as_of=as_of, shop=config.shop, days=conf.popularity_days
        ),
    }  # fmt: skip
