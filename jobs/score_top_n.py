"""Score every user against the whole catalogue: the day's top-N lists, what is similar, also bought and popular.

    ./spark-submit.sh score_top_n --env local --run-date 2010-12-10

The model that passed today's gate scores; when none was due or none passed, the live release's does,
on today's histories, stock and rules.

Reads    histories, seen_items, users, items, vocabularies, item_similarity, transitions, reorder_intervals, popularity,
         events (what was returned), the models' folders, what evaluate decided, the live release, the items
         blocked by hand
Writes   top_n_lists, similar_items, also_bought, popular_items, rules    as_of = run-date, replaced atomically
"""

from __future__ import annotations

from datetime import date

from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.records import EvaluationRecord, ScoringRecord
from recsys.release.pointer import live_release
from recsys.runner import Job, job_app
from recsys.scoring.choice import choose_model
from recsys.scoring.daily import score_day

JOB = Job(
    name="score_top_n",
    reads=("histories", "seen_items", "users", "items", "vocabularies", "item_similarity",
           "transitions", "reorder_intervals", "popularity", "events", "models/evaluated-<run_date>.json",
           "models/<model_version>/", "releases/current", "releases/blocked.json"),
    writes=("top_n_lists", "similar_items", "also_bought", "popular_items", "rules", "models/scored-<run_date>.json"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> ScoringRecord:
    release = live_release(config.paths)
    live = release.scored_by if release else None
    evaluation = EvaluationRecord.read_if_there(config.paths, run_date)
    return score_day(lake, config, run_date, choose_model(evaluation, live, run_date))


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
