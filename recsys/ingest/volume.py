"""The day before the run date against the same weekday of the weeks before: short, doubled, missing or as usual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import dropwhile
from statistics import median
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.config.sections import VolumeConfig
from recsys.errors import Refused
from recsys.ingest.description import SourceDescription
from recsys.ingest.judged_rows import SEGMENT

_SHOWN = 10


class Part(NamedTuple):
    """Which events are counted: those of a source, those of a segment, or all."""

    source: str = ""
    segment: str = ""

    def __str__(self) -> str:
        return f"source {self.source!r}" if self.source else self.segment or "all events"


TOTAL = Part()


@dataclass(frozen=True)
class DayCounts:
    """Accepted events of the judged day and of its weekday in the weeks before."""

    first_day: date | None
    """The day of the first event there is."""
    by_day: Mapping[date, Mapping[Part, int]]
    """Day -> part -> events; TOTAL is the whole shop."""


@dataclass(frozen=True)
class Finding:
    """One verdict of the volume check, as ``data_quality`` keeps it."""

    part: Part
    found: int
    wanted: str
    verdict: str
    """ok, refused, accepted or noted (not judged)."""
    reason: str


def judged_days(run_date: date, config: VolumeConfig) -> list[date]:
    """The day before the run date, then its weekday in the weeks before it."""
    return [run_date - timedelta(days=1 + 7 * week) for week in range(config.weeks + 1)]


def judged_apart(delivering: Sequence[SourceDescription], day: date) -> list[str]:
    """The sources of events whose volume is judged beside the total, which alone would hide a small one's.

    With one source the total says it all; an archive that ended before ``day`` owes it nothing.
    """
    owing = [d.name for d in delivering if d.covers_until is None or d.covers_until > day]
    return owing if len(delivering) > 1 else []


def count_days(events: DataFrame, days: list[date]) -> DayCounts:
    """Count ``events`` on ``days``: all, by source, and by the segment that their rows name. One pass."""
    on_a_day = F.when(F.col("event_date").isin(days), F.col("event_date"))
    rows = (
        events.groupBy(
            on_a_day.alias("day"), "source", F.col("attributes")[SEGMENT].alias("segment")
        )
        .agg(F.count(F.lit(1)).alias("events"), F.min("event_date").alias("first"))
        .collect()
    )
    by_day: dict[date, Counter[Part]] = {day: Counter({TOTAL: 0}) for day in days}
    for row in rows:
        if row["day"] is not None:
            counts = by_day[row["day"]]
            counts[TOTAL] += row["events"]
            counts[Part(source=row["source"])] += row["events"]
            if row["segment"]:
                counts[Part(segment=row["segment"])] += row["events"]
    return DayCounts(min((row["first"] for row in rows), default=None), by_day)


def judge_volume(
    counts: DayCounts, run_date: date, config: VolumeConfig, sources: Sequence[str] = ()
) -> list[Finding]:
    """Judge the total, then each of ``sources`` and every segment whose median is large enough, by name."""
    day, *before = judged_days(run_date, config)
    history = [d for d in before if counts.first_day is not None and d >= counts.first_day]
    found = counts.by_day[day].get(TOTAL, 0)
    if len(history) < config.min_weeks:
        reason = (
            f"not judged: {len(history)} weeks of history before {day}, {config.min_weeks} wanted"
        )
        return [Finding(TOTAL, found, "", "noted", reason)]
    total = _judge(TOTAL, day, history, counts, config)
    if total.verdict == "noted":
        return [total]
    segments = sorted({part for d in history for part in counts.by_day[d] if part.segment})
    weeks_of = {part: _since_it_began(part, history, counts) for part in map(Part, sorted(sources))}
    judged = [
        _judge(part, day, weeks, counts, config)
        for part, weeks in (weeks_of | dict.fromkeys(segments, history)).items()
        if len(weeks) >= config.min_weeks
    ]
    return [total] + [finding for finding in judged if finding.verdict != "noted"]


def _since_it_began(part: Part, history: list[date], counts: DayCounts) -> list[date]:
    """The weeks since a source first delivered: those before would make every day of a new one too many."""
    return list(dropwhile(lambda d: not counts.by_day[d].get(part), reversed(history)))


def _judge(
    part: Part, day: date, history: list[date], counts: DayCounts, config: VolumeConfig
) -> Finding:
    found = counts.by_day[day].get(part, 0)
    usual = median(counts.by_day[d].get(part, 0) for d in history)
    weekday = day.strftime("%A")
    wanted = f"{config.floor:g} to {config.ceiling:g} x {usual:g}, the median of {len(history)} {weekday}s"
    if usual == 0:
        return Finding(part, found, wanted, "noted", f"not judged: usually no trade on a {weekday}")
    if usual < config.smallest_median:
        reason = f"not judged: the median of {usual:g} is below {config.smallest_median}"
        return Finding(part, found, wanted, "noted", reason)
    if found == 0:
        verdict, reason = "refused", f"missing: no event on {day}"
    elif found < config.floor * usual:
        verdict, reason = (
            "refused",
            f"short: {found} events on {day}, {found / usual:.0%} of the usual {usual:g}",
        )
    elif found > config.ceiling * usual:
        verdict, reason = (
            "refused",
            f"too many: {found} events on {day}, {found / usual:.1f} x the usual {usual:g}",
        )
    else:
        verdict, reason = "ok", ""
    return Finding(part, found, wanted, verdict, reason)


def accept(findings: list[Finding], reason: str) -> list[Finding]:
    """What was refused, taken all the same on somebody's word, which is kept beside what was found."""
    return [
        replace(f, verdict="accepted", reason=f"{reason} ({f.reason})")
        if f.verdict == "refused"
        else f
        for f in findings
    ]


def refuse(findings: list[Finding], run_date: date, live: str | None) -> None:
    """Raise when a finding is a refusal.

    Raises:
        Refused: names what is short, doubled or missing, what keeps serving, and both ways on.
    """
    refused = [f for f in findings if f.verdict == "refused"]
    if not refused:
        return
    lines = [f"{f.part}: {f.reason} (wanted {f.wanted})" for f in refused[:_SHOWN]]
    if len(refused) > _SHOWN:
        lines.append(f"… and {len(refused) - _SHOWN} more")
    serving = f"release {live} keeps serving" if live else "no release is live yet"
    raise Refused(
        f"the volume of {run_date - timedelta(days=1)} is not as usual:\n  " + "\n  ".join(lines)
        + f"\nNothing was written; {serving}. Two ways on: run ingest again for {run_date} when the rest has "
        'come (or the doubled file is mended), or take it as it is with --accept-volume "reason"'
    )  # fmt: skip
