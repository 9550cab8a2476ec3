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
from pyspark.sql import functions as F

from recsys import contracts as t
from recsys import features
from recsys.config import RecsysConfig
from recsys.lake import Lake, Written
from recsys.release.schedule import training_due
from recsys.runner import Job, job_app

JOB = Job(
    "build_features",
    reads=("events", "items", "users", "vocabularies"),
    writes=(
        "vocabularies",
        "user_features",
        "item_features",
        "histories",
        "seen_items",
        "data_quality",
    ),
)
log = structlog.get_logger()


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Written]:
    shop, cap = config.shop, config.candidates.max_user_events_90d
    due = training_due(config, run_date)
    events, items, users = (
        lake.read(t.EVENTS),
        lake.read_or_empty(t.ITEMS),
        lake.read_or_empty(t.USERS),
    )
    written = []
    for as_of in due.cut_offs:
        log.info(
            "features_started", as_of=as_of.isoformat(), training_due=due.due, reason=due.reason
        )
        earlier = lake.read_or_empty(t.VOCABULARIES)
        numbers = features.vocabularies(events, items, users, earlier, as_of=as_of)
        written.append(lake.replace(numbers, t.VOCABULARIES, {"version": as_of}))
        vocabulary = lake.read(t.VOCABULARIES).where(F.col("version") == as_of)
        tables = {
            t.USER_FEATURES: features.user_features(events, users, as_of=as_of),
            t.ITEM_FEATURES: features.item_features(events, items, vocabulary, as_of=as_of),
            t.HISTORIES: features.histories(
                events, users, vocabulary, as_of=as_of, shop=shop,
                max_history=config.features.max_history, max_user_events_90d=cap,
            ),
            t.SEEN_ITEMS: features.seen_items(events, vocabulary, as_of=as_of, shop=shop),
        }  # fmt: skip
        written += [
            lake.replace(rows, contract, {"as_of": as_of}) for contract, rows in tables.items()
        ]
    capped = features.capped_users(
        lake.read(t.HISTORIES),
        due.cut_offs,
        run_date=run_date,
        job=JOB.name,
        max_user_events_90d=cap,
    )
    return [*written, lake.replace(capped, t.DATA_QUALITY, {"run_date": run_date, "job": JOB.name})]


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app()
