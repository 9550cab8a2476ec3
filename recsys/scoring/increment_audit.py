"""A sample of lists, made anew in full from events with what the full run used, against what is to be written."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.errors import CorruptArtifact
from recsys.lake import local_rows
from recsys.scoring.affected import Scene
from recsys.scoring.carried_files import Sample
from recsys.scoring.picked_lists import COLUMNS, PickedLists
from recsys.scoring.same_lists import difference, places
from recsys.scoring.spark import ScoringTask, score_users

log = structlog.get_logger()

MOST_EXAMPLES = 5


def sample_of(scene: Scene) -> Sample:
    """About ``scoring.audit_users`` users of the lists that are carried over, and other users every day.

    Those affected are scored from events as it is.
    """
    step = scene.step
    share = min(1.0, scene.config.scoring.audit_users / max(step.live.num_lists, 1))
    return Sample(share, seed=step.now.before.toordinal())


def sample_of_everybody(scene: Scene) -> list[str]:
    """``scoring.audit_users`` users of the live lists, chosen by hash, where all lists are scored."""
    run_date, users = scene.step.now.before, scene.carried_lists.select("user_id")
    by_hash = (F.xxhash64("user_id", F.lit(str(run_date))), "user_id")
    found = users.orderBy(*by_hash).limit(scene.config.scoring.audit_users).collect()
    return [row["user_id"] for row in found]


def with_sample(scene: Scene, affected: DataFrame, sample: Collection[str]) -> DataFrame:
    """(user_id): both are scored in one pass, for what is made from events is planned, and read, but once."""
    return affected.unionByName(_users(scene, sample)) if sample else affected


def audit_everybody(
    scene: Scene, task: ScoringTask, sample: list[str], scored: PickedLists
) -> None:
    """``audit`` where the lists of all users were scored, most from the full run's histories: these from events.

    Raises: as ``audit``.
    """
    if not sample:
        return
    users = scene.users(_users(scene, sample))
    anew = score_users(users, task, scene.entry, n=scene.config.scoring.n, partitions=1)
    audit(scene, scored, {row["user_id"]: places(row) for row in anew.select(*COLUMNS).collect()})


def audit(scene: Scene, found: PickedLists, wanted: PickedLists) -> None:
    """Compare lists that are to be written with those made anew; the table is as it was.

    Raises:
        CorruptArtifact: a list is another; the message names the users.
    """
    run_date = scene.step.now.before
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
            + ". No list was written, and there is no record, so that nothing can be published; run a full night for "
            "this run date"
        )


def _users(scene: Scene, user_ids: Iterable[str]) -> DataFrame:
    return local_rows(scene.lake.spark, ((user,) for user in user_ids), "user_id string")
