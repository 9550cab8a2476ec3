"""A sample of lists, made anew in full from events with what the full run used, against what was written."""

from __future__ import annotations

import structlog
from pyspark.sql import functions as F

from recsys import contracts
from recsys.errors import CorruptArtifact
from recsys.scoring.affected import Scene
from recsys.scoring.increment import read_as_it_was
from recsys.scoring.same_lists import difference, places
from recsys.scoring.spark import ScoringTask, score_users

log = structlog.get_logger()

MOST_EXAMPLES = 5
NO_RECORD = "The lists were written and could not be audited; no record was written, so they cannot be published"


def audit_lists(scene: Scene, task: ScoringTask) -> None:
    """Compare the lists of ``scoring.audit_users`` users, chosen by hash, other users every day.

    Raises:
        CorruptArtifact: a list is another; the message names the users.
        Refused: what the full run read is gone; the lists are written, and cannot be published.
    """
    run_date, scoring = scene.step.now.before, scene.config.scoring
    written = scene.lake.read(contracts.TOP_N_LISTS, as_of=run_date)
    by_hash = (F.xxhash64("user_id", F.lit(str(run_date))), "user_id")
    sample = written.select("user_id").orderBy(*by_hash).limit(scoring.audit_users).persist()
    scene.stack.callback(sample.unpersist)
    columns = ("user_id", "item_ids", "scores", "sources")
    found = {
        row["user_id"]: places(row)
        for row in written.join(F.broadcast(sample), "user_id", "left_semi")
        .select(*columns)
        .collect()
    }
    with read_as_it_was(scene.step, written=NO_RECORD):
        anew = score_users(scene.users(sample), task, scene.entry, n=scoring.n, partitions=1)
        wanted = {row["user_id"]: places(row) for row in anew.select(*columns).collect()}
    problems = [
        f"user {user!r}: {problem}"
        for user in sorted(found.keys() | wanted.keys())
        if (problem := difference(found.get(user), wanted.get(user)))
    ]
    log.info("increment_audited", users=len(found), differing=len(problems))
    if problems:
        raise CorruptArtifact(
            f"{len(problems)} of {len(found)} lists of {run_date} are not what a full run with the inputs of "
            f"{scene.step.full_as_of} gives: "
            + "; ".join(problems[:MOST_EXAMPLES])
            + ". No record was written, so "
            "they cannot be published; run a full night for this run date"
        )
