"""Whether anything that a window is measured with knows of the window: checked on the tables, after the fact.

What builds the tables keeps to the days before the cut-off (tests/features/test_point_in_time.py). This looks at what
they hold, whoever wrote it: a job of another version, a repair by hand, events that were replaced since.

A number in the vocabulary is given for good, so an item is known at a cut-off, with or without an event before it,
where the catalogue named it before that day or an older version of the vocabulary has it. Candidates and what features
count come from events alone, and have no such excuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import structlog

from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.config.shop import ShopConfig
from recsys.errors import Refused
from recsys.evaluation.leak_findings import (
    FIRST,
    NEWEST,
    SAID,
    SIDE,
    Tables,
    findings,
    first_and_last_days,
)
from recsys.lake import Lake

log = structlog.get_logger()

OBSERVED = (t.EVENTS, t.ITEMS, t.USERS)
FEATURES, CANDIDATES = "build_features", "build_candidates"
BUILT = {
    t.VOCABULARIES: FEATURES,
    t.ITEM_FEATURES: FEATURES,
    t.USER_FEATURES: FEATURES,
    t.HISTORIES: FEATURES,
    t.SEEN_ITEMS: FEATURES,
    t.ITEM_SIMILARITY: CANDIDATES,
    t.TRANSITIONS: CANDIDATES,
    t.REORDER_INTERVALS: CANDIDATES,
    t.POPULARITY: CANDIDATES,
}
"""What is built by day, and the job that does."""

SAYS = {
    SIDE: "event_date is {found}, and its event_ts is of {allowed} in the shop's zone",
    FIRST: "its first event is of {found}, the cut-off is {allowed}",
    NEWEST: "its newest event is said to be of {found}, and may not be after {allowed}",
    SAID: "this was first said of it on {found}, the cut-off is {allowed}",
}
MOST_TOLD = 5


@dataclass(frozen=True)
class Leak:
    """All findings of one kind in one column of a table, told by that with the smallest key."""

    table: str
    column: str
    kind: str
    """Of ``SAYS``."""
    count: int
    key: str
    found: date
    """The day that must not be there."""
    allowed: date
    """The day that it must be before, or not after."""


def check_leaks(lake: Lake, config: RecsysConfig, cut_off: date) -> None:
    """Let nothing be measured from ``cut_off`` on with tables that know what happens then.

    All tables are read in one query, as ``lake`` reads them: now, or a ``FrozenLake`` at its versions. Those that were
    never written are passed over: who needs them says so.

    Raises:
        Refused: something leaks; each kind with its table, a key, both days and what to do.
    """
    found = leaks(
        {table: lake.read_or_empty(table) for table in (*OBSERVED, *BUILT)}, config.shop, cut_off
    )
    log.info("leaks_checked", cut_off=str(cut_off), leaks=len(found))
    if found:
        told = [_told(leak, cut_off) for leak in found[:MOST_TOLD]]
        more = f"\n  and {len(found) - MOST_TOLD} more kinds" if len(found) > MOST_TOLD else ""
        raise Refused(
            f"what was built as of {cut_off} knows of later days, so figures from {cut_off} on would be too good; "
            "nothing was measured:\n  " + "\n  ".join(told) + more
        )


def leaks(tables: Tables, shop: ShopConfig, cut_off: date) -> list[Leak]:
    """What leaks, by table, column and kind; ``tables`` has all of ``OBSERVED`` and ``BUILT``."""
    days = first_and_last_days(tables[t.EVENTS], cut_off).persist()
    try:
        days.count()  # so that the query below is planned with what is known of its size: most is sent to all tasks
        rows = findings(tables, days, shop, cut_off).collect()
    finally:
        days.unpersist()
    return [Leak(row.table, row.column, row.kind, row["count"], *row["first"]) for row in rows]


def _told(leak: Leak, cut_off: date) -> str:
    more = f" (and {leak.count - 1:,} more)" if leak.count > 1 else ""
    what = SAYS[leak.kind].format(found=leak.found, allowed=leak.allowed)
    return f"{leak.table}, {leak.column} {leak.key!r}{more}: {what}. {_fix(leak, cut_off)}"


def _fix(leak: Leak, cut_off: date) -> str:
    if leak.kind == SIDE:
        return "Set shop.time_zone to what the source was ingested with, or run ingest again"
    job = next(job for table, job in BUILT.items() if table.name == leak.table)
    if leak.table == t.VOCABULARIES.name:
        return (
            f"Numbers are kept when {job} runs again: delete the rows of version {cut_off} and later, then run it, "
            "build_candidates and train"
        )
    return f"Run {job} again for the run date, and train"
