"""Publish the lists of one run date: a release, its lookup snapshot, the pointer swapped last.

    ./spark-submit.sh publish --env local --run-date 2010-12-10

Reads    top_n_lists, similar_items, also_bought, popular_items   as_of = run-date
         events, items, users, rules, histories, seen_items, vocabularies, item_similarity, transitions,
         reorder_intervals, popularity, item_vectors, data_quality   for the manifest
Writes   releases/<release_id>/, the pointer releases/current, then a row of releases, and served_history
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import structlog

from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.release.publish import Published, publish
from recsys.runner import Job, job_app

log = structlog.get_logger()

JOB = Job(
    "publish",
    reads=("top_n_lists", "similar_items", "also_bought", "popular_items", "events", "items", "users", "rules",
           "histories", "seen_items", "vocabularies", "item_similarity", "transitions", "reorder_intervals",
           "popularity", "item_vectors", "data_quality", "models/scored-<run_date>.json",
           "models/<model_version>/"),
    writes=("releases/<release_id>/", "releases/current", "releases", "served_history"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> Published:
    published = publish(lake, config, run_date, now=datetime.now(UTC))
    log.info("published", release=published.manifest.release_id, live=published.live)
    return published


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
