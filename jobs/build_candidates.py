"""Build what needs no training: item-item similarity, transitions, popularity, as of a day, exclusive.

    ./spark-submit.sh build_candidates --env local --run-date 2010-12-10

Reads    events of days before each cut-off; vocabularies, histories of each cut-off
Writes   item_similarity, transitions, popularity
         as_of = each cut-off: all three when a new model is due, else the run date alone
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date

import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import candidates
from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.lake import Lake, Written, replace_days
from recsys.release.schedule import training_due
from recsys.runner import Job, job_app

JOB = Job(
    "build_candidates",
    reads=("events", "vocabularies", "histories"),
    writes=("item_similarity", "transitions", "popularity"),
)
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Written]:
    conf, shop, events = config.candidates, config.shop, lake.read(t.EVENTS)
    cut_offs = training_due(config, run_date).cut_offs
    log.info("candidates_started", cut_offs=[day.isoformat() for day in cut_offs])

    def of_day(as_of: date) -> dict[t.TableContract, DataFrame]:
        vocabulary = lake.read(t.VOCABULARIES).where(F.col("version") == as_of)
        histories = lake.read(t.HISTORIES, as_of=as_of)
        units = candidates.sequences(
            events,
            histories,
            vocabulary,
            as_of=as_of,
            shop=shop,
            max_user_items=conf.max_user_items,
        ).persist()
        cached.callback(units.unpersist)
        return {
            t.ITEM_SIMILARITY: candidates.item_similarity(
                units, vocabulary, as_of=as_of, shrinkage=conf.shrinkage, neighbours=conf.neighbours
            ),
            t.TRANSITIONS: candidates.transitions(
                units, vocabulary, as_of=as_of, gaps=conf.transition_gaps,
                shrinkage=conf.transition_shrinkage, neighbours=conf.neighbours,
            ),
            t.POPULARITY: candidates.popularity(
                events, histories, vocabulary, as_of=as_of, shop=shop, days=conf.popularity_days
            ),
        }  # fmt: skip

    with ExitStack() as cached:
        return replace_days(lake, cut_offs, of_day)


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app()
