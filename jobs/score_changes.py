"""Score the users whose events or rules changed since the live release; carry the others' lists over.

    ./spark-submit.sh score_changes --env local --run-date 2010-12-11

Between two full runs, after ingest and before publish: model, vocabulary, candidates, popularity and the day that
ages count to stay those of the last full run. Where one of them is new, or conf changed, it says so and refuses.

Reads    events and their change feed, items, users, rules, top_n_lists of the live release;
         histories, seen_items, vocabularies, item_similarity, transitions, reorder_intervals, popularity of the full
         run; the models' folders, what scored them, the items blocked by hand
Writes   top_n_lists, similar_items, also_bought, popular_items, rules    as_of = run-date, replaced atomically
"""

from __future__ import annotations

from datetime import date

from recsys.config import RecsysConfig
from recsys.contracts import TOP_N_LISTS
from recsys.lake import Lake
from recsys.records import ScoringRecord
from recsys.release.pointer import live_release
from recsys.runner import Job, job_app
from recsys.scoring import incremental
from recsys.scoring.increment import LiveLists

JOB = Job(
    name="score_changes",
    reads=("events", "items", "users", "rules", "top_n_lists", "histories", "seen_items",
           "vocabularies", "item_similarity", "transitions", "reorder_intervals", "popularity",
           "models/scored-<run_date>.json",
           "models/<model_version>/", "releases/current", "releases/blocked.json"),
    writes=("top_n_lists", "similar_items", "also_bought", "popular_items", "rules", "models/scored-<run_date>.json"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> ScoringRecord:
    return incremental.score_changes(lake, config, run_date, live_lists(config))


def live_lists(config: RecsysConfig) -> LiveLists | None:
    """What may be carried over."""
    release = live_release(config.paths)
    if release is None:
        return None
    versions = {name: table.version for name, table in release.tables.items()}
    lists = release.tables[TOP_N_LISTS.name]
    return LiveLists(release.run_date, release.scored_by, versions, lists.content_hash, lists.rows)


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
