"""Build features, histories and numbers as of a day, exclusive.

    ./spark-submit.sh build_features --env local --run-date 2010-12-10

Reads    events, items, users   of days before each cut-off
Writes   vocabularies, user_features, item_features, histories, seen_items
         as_of = each cut-off: all three when a new model is due, else the run date alone;
         data_quality: the users left out of pairs and training
"""

from __future__ import annotations

from datetime import date

import structlog

from recsys import contracts as t
from recsys import features
from recsys.config import RecsysConfig
from recsys.lake import Lake, Tables, Written, replace_days
from recsys.release.schedule import training_due
from recsys.runner import Job, job_app

JOB = Job(
    "build_features",
    reads=("events", "items", "users", "vocabularies"),
    writes=("vocabularies", "user_features", "item_features", "histories", "seen_items",
            "data_quality"),
)  # fmt: skip
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Written]:
    due = training_due(config, run_date)
    days = [str(day) for day in due.cut_offs]
    log.info("features_started", as_of=days, training_due=due.due, reason=due.reason)
    events, items, users = (
        lake.read(t.EVENTS),
        lake.read_or_empty(t.ITEMS),
        lake.read_or_empty(t.USERS),
    )
    written = []
    for as_of in due.cut_offs:  # one after the other: a number, once given, stays
        earlier = lake.read_or_empty(t.VOCABULARIES)
        numbered = features.vocabularies(events, items, users, earlier, as_of=as_of)
        written.append(lake.replace(numbered, t.VOCABULARIES, {"version": as_of}))

    def of_day(as_of: date) -> Tables:
        return features.tables_of_day(
            events, items, users, lake.vocabulary(as_of), config=config, as_of=as_of
        )

    written += replace_days(lake, due.cut_offs, of_day)
    capped = features.capped_users(
        lake.read(t.HISTORIES, as_of=due.cut_offs),
        run_date=run_date,
        job=JOB.name,
        max_user_events_90d=config.candidates.max_user_events_90d,
    )
    return [*written, lake.replace(capped, t.DATA_QUALITY, {"run_date": run_date, "job": JOB.name})]


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
