"""What an increment starts from, and when only a full run will do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import Refused
from recsys.lake import Lake
from recsys.records import EvaluationRecord, ScoringRecord
from recsys.scoring.changes import Used
from recsys.scoring.choice import LiveModel
from recsys.scoring.daily import settings_hash

NEEDED = {table.name for table in (contracts.EVENTS, contracts.RULES, contracts.TOP_N_LISTS)}
"""What the live release must name."""
FULL_RUN = "Run a full night for this run date: run_pipeline, or its steps from build_features on"


@dataclass(frozen=True)
class LiveLists:
    """The release whose lists are carried over."""

    run_date: date
    model: LiveModel
    versions: Mapping[str, int]
    """Of the tables, as its manifest names them."""
    lists_hash: str
    """Of its rows of top_n_lists."""
    num_lists: int
    """How many these are."""


@dataclass(frozen=True)
class Increment:
    """From which lists to which."""

    live: LiveLists
    full_as_of: date
    versions: Mapping[str, int]
    """What the full run read."""
    since_full: Used
    since_live: Used
    now: Used


def plan(lake: Lake, config: RecsysConfig, run_date: date, live: LiveLists | None) -> Increment:
    """What the lists of ``run_date`` are made from.

    Raises:
        Refused: a full run is due.
    """
    if config.scoring.incremental == "never":
        raise Refused(f"scoring.incremental is never: nothing was written. {FULL_RUN}")
    if live is None:
        raise Refused(f"no release is live whose lists could be carried over. {FULL_RUN}")
    record = ScoringRecord.read_if_there(config.paths, live.run_date)
    if why := _full_run_due(lake, config, run_date, live, record):
        raise Refused(
            f"{why}: what was scored by itself would be wrong. Nothing was written. {FULL_RUN}"
        )
    assert record is not None
    full_as_of = record.inputs_as_of
    # The older of the two: rows that turn out the same add up to nothing.
    version = min(live.versions[contracts.EVENTS.name], record.events_version)
    return Increment(
        live, full_as_of, record.versions,
        since_full=Used(record.versions[contracts.EVENTS.name], full_as_of),
        since_live=Used(version, live.run_date),
        now=Used(lake.version(contracts.EVENTS), run_date),
    )  # fmt: skip


GONE = re.compile(
    "FILE_NOT_EXIST|FileNotFoundException|Path does not exist|a file of the live lists is gone: [^{]"
    "|DELTA_(FILE_NOT_FOUND|FILE_OR_DIR_NOT_FOUND|LOG_FILE_NOT_FOUND|VERSION_NOT_FOUND|CANNOT_FIND_VERSION"
    "|VERSIONS_NOT_CONTIGUOUS|TRUNCATED_TRANSACTION_LOG|MISSING_CHANGE_DATA|INVALID_CDC_RANGE"
    "|CHANGE_TABLE_FEED_DISABLED)"
)
"""What Spark, Delta and carry_over say of files that VACUUM, or the clean-up of a table's log, took away."""
NOTHING_WRITTEN = "Nothing was written"


@contextmanager
def read_as_it_was(step: Increment, *, written: str = NOTHING_WRITTEN) -> Iterator[None]:
    """Around reading a change feed, or tables at the versions of the full run; ``written`` says how far we are.

    A version that is gone is noticed as a plan is made, a file of it only as the plan is carried out.

    Raises:
        Refused: their files are gone.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if not GONE.search(str(error)):
            raise
        raise Refused(
            f"the change feed of events from version {step.since_full.version} on, or a table at the version that the "
            f"full run of {step.full_as_of} read, can no longer be read: {_in_short(error)}. {written}. "
            f"{FULL_RUN}"
        ) from error


def _in_short(error: Exception) -> str:
    """The lines that name what is gone: the first one of a failed task only says that it failed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if GONE.search(line)), lines[0])[:300]


def _full_run_due(
    lake: Lake, config: RecsysConfig, run_date: date, live: LiveLists, record: ScoringRecord | None
) -> str:
    """Why lists cannot be carried over; '' where they can."""
    if record is None or not record.versions or not NEEDED <= live.versions.keys():
        return f"nothing says which tables the lists of {live.run_date} were made from"
    if run_date < live.run_date:
        return f"the live release is of {live.run_date}, a later run date"
    if not _is_record_of(lake, record, live):
        return f"{live.run_date} was scored again since it was published"
    if record.settings != settings_hash(config):
        return "what conf says of events, histories or lists has changed since the full run"
    return _newer_than_full(lake, config, run_date, record)


def _is_record_of(lake: Lake, record: ScoringRecord, live: LiveLists) -> bool:
    """Whether it tells of the lists that are live, or of equal ones."""
    model = live.model
    if (record.model_version, record.ranking_version) != (
        model.model_version,
        model.ranking_version,
    ):
        return False
    if record.lists_version <= live.versions[contracts.TOP_N_LISTS.name]:
        return True
    found = lake.content_hash(contracts.TOP_N_LISTS, record.lists_version, as_of=live.run_date)
    return found == live.lists_hash


def _newer_than_full(
    lake: Lake, config: RecsysConfig, run_date: date, record: ScoringRecord
) -> str:
    """What only a full run takes up."""
    evaluation = EvaluationRecord.read_if_there(config.paths, run_date)
    if evaluation and evaluation.passed and evaluation.recipe:
        passed = {
            "model": (evaluation.model_version, record.model_version),
            "ranking model": (evaluation.ranking_version, record.ranking_version),
            "recipe": (evaluation.recipe, record.recipe),
        }
        if others := [name for name, (new, used) in passed.items() if new != used]:
            return f"a new {' and a new '.join(others)} passed the gate of {run_date}"
    full_as_of = record.inputs_as_of
    newer = lake.read(contracts.ITEM_SIMILARITY).where(
        (F.col("as_of") > F.lit(full_as_of)) & (F.col("as_of") <= F.lit(run_date))
    )
    if not newer.isEmpty():
        return f"there are newer candidates than those of {full_as_of}"
    return ""
