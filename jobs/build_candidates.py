"""Build what needs no training: similarity, transitions, re-order intervals, popularity, as of a day, exclusive.

    ./spark-submit.sh build_candidates --env local --run-date 2010-12-10

Reads    events of days before each cut-off; vocabularies, histories of each cut-off
Writes   item_similarity, transitions, reorder_intervals, popularity
         as_of = each cut-off: all four when a new model is due, else the run date alone
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date

import structlog

from recsys import candidates
from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.lake import Lake, Tables, Written, replace_days
from recsys.release.schedule import training_due
from recsys.runner import Job, job_app

JOB = Job(
    "build_candidates",
    reads=("events", "vocabularies", "histories"),
    writes=("item_similarity", "transitions", "reorder_intervals", "popularity"),
)
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Written]:
    events = lake.read(t.EVENTS)
    cut_offs = training_due(config, run_date).cut_offs
    log.info("candidates_started", as_of=[str(day) for day in cut_offs])

    def of_day(as_of: date) -> Tables:
        known = events, lake.read(t.HISTORIES, as_of=as_of), lake.vocabulary(as_of)
        units = candidates.sequences_of_day(*known, config=config, as_of=as_of).persist()
        cached.callback(units.unpersist)
        return candidates.tables_of_day(units, *known, config=config, as_of=as_of)

    with ExitStack() as cached:
        return replace_days(lake, cut_offs, of_day)


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
