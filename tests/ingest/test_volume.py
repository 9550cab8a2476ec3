"""The day before the run date against its weekday in the weeks before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from recsys.config.sections import VolumeConfig
from recsys.errors import Refused
from recsys.ingest.description import SourceDescription
from recsys.ingest.volume import (
    TOTAL,
    DayCounts,
    Finding,
    Part,
    accept,
    judge_volume,
    judged_apart,
    judged_days,
    refuse,
)

RUN_DATE = date(2024, 3, 1)
DAY = date(2024, 2, 29)  # a Thursday
CONFIG = VolumeConfig()
EIRE, UK = Part(segment="EIRE"), Part(segment="UK")
TILL, WEB = Part(source="till"), Part(source="web")


def judged(
    found: dict[Part, int], usual: dict[Part, int], weeks: int = 8, sources: Sequence[str] = ()
) -> dict[Part, Finding]:
    """The findings when ``found`` follows ``weeks`` Thursdays with ``usual``; parts add up by themselves."""
    days = judged_days(RUN_DATE, CONFIG)
    by_day = {day: (usual if i <= weeks else {TOTAL: 0}) for i, day in enumerate(days)}
    by_day[DAY] = found
    first = DAY - timedelta(days=7 * weeks)
    findings = judge_volume(DayCounts(first, by_day), RUN_DATE, CONFIG, sources)
    return {f.part: f for f in findings}


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (700, "ok", ""),  # the floor itself is enough
        (699, "refused", "short: 699 events on 2024-02-29, 70% of the usual 1000"),
        (0, "refused", "missing: no event on 2024-02-29"),
        (2000, "ok", ""),  # the ceiling itself is allowed
        (2001, "refused", "too many: 2001 events on 2024-02-29, 2.0 x the usual 1000"),
    ],
)
def test_the_day_is_judged_by_floor_and_ceiling(found: int, verdict: str, said: str) -> None:
    finding = judged({TOTAL: found}, {TOTAL: 1000})[TOTAL]
    assert (finding.verdict, finding.reason) == (verdict, said)
    assert finding.wanted == "0.7 to 2 x 1000, the median of 8 Thursdays"


def test_a_weekday_without_trade_is_closed_not_short() -> None:
    finding = judged({TOTAL: 0}, {TOTAL: 0})[TOTAL]
    assert (finding.verdict, finding.reason) == (
        "noted",
        "not judged: usually no trade on a Thursday",
    )


def test_a_median_below_the_smallest_is_not_judged() -> None:
    assert judged({TOTAL: 0}, {TOTAL: 99})[TOTAL].verdict == "noted"
    assert judged({TOTAL: 0}, {TOTAL: 100})[TOTAL].verdict == "refused"


def test_the_first_weeks_are_not_judged() -> None:
    finding = judged({TOTAL: 0}, {TOTAL: 1000}, weeks=3)[TOTAL]
    assert finding.reason == "not judged: 3 weeks of history before 2024-02-29, 4 wanted"
    assert judged({TOTAL: 0}, {TOTAL: 1000}, weeks=4)[TOTAL].verdict == "refused"


def test_an_empty_lake_is_not_judged() -> None:
    empty = DayCounts(None, {day: {TOTAL: 0} for day in judged_days(RUN_DATE, CONFIG)})
    assert [f.verdict for f in judge_volume(empty, RUN_DATE, CONFIG)] == ["noted"]


def test_a_missing_segment_is_refused_though_the_total_is_well() -> None:
    findings = judged({TOTAL: 900, EIRE: 0, UK: 900}, {TOTAL: 1000, EIRE: 150, UK: 850})
    assert {part: f.verdict for part, f in findings.items()} == {
        TOTAL: "ok",
        EIRE: "refused",
        UK: "ok",
    }


def test_a_small_segment_is_left_out() -> None:
    malta = Part(segment="MALTA")
    findings = judged({TOTAL: 1000, malta: 0}, {TOTAL: 1000, malta: 99})
    assert set(findings) == {TOTAL}


def test_a_missing_source_is_refused_though_the_total_is_well() -> None:
    found, usual = {TOTAL: 9900, WEB: 9900}, {TOTAL: 10_000, WEB: 9900, TILL: 100}
    findings = judged(found, usual, sources=["till", "web"])
    assert {part: f.verdict for part, f in findings.items()} == {
        TOTAL: "ok", TILL: "refused", WEB: "ok",
    }  # fmt: skip
    with pytest.raises(Refused, match="\n  source 'till': missing: no event on 2024-02-29 "):
        refuse(list(findings.values()), RUN_DATE, live=None)


def test_a_small_source_is_left_out() -> None:
    findings = judged({TOTAL: 1000, WEB: 1000}, {TOTAL: 1000, WEB: 901, TILL: 99}, sources=["till"])
    assert set(findings) == {TOTAL}


@pytest.mark.parametrize(("weeks", "judged_parts"), [(3, {TOTAL}), (4, {TOTAL, WEB})])
def test_a_new_source_is_judged_by_its_own_weeks(weeks: int, judged_parts: set[Part]) -> None:
    days = judged_days(RUN_DATE, CONFIG)
    by_day = {day: {TOTAL: 10_000, WEB: 200 if i <= weeks else 0} for i, day in enumerate(days)}
    by_day[DAY][WEB] = 220  # more than twice the median of four weeks with and four without it
    findings = judge_volume(DayCounts(days[-1], by_day), RUN_DATE, CONFIG, ["web"])
    assert {f.part: f.verdict for f in findings} == dict.fromkeys(judged_parts, "ok")


def test_sources_are_judged_apart_where_there_are_several_and_no_archive_that_has_ended() -> None:
    def source(name: str, covers_until: date | None = None) -> SourceDescription:
        return SourceDescription.model_validate({
            "name": name, "kind": "events", "pattern": "*.csv", "raw_columns": {"time": "timestamp"},
            "columns": {"event_ts": "time"}, "event_type": "view", "covers_until": covers_until,
        })  # fmt: skip

    archive, till = source("archive", covers_until=DAY), source("till")
    assert judged_apart([till], DAY) == []
    assert judged_apart([till, source("web")], DAY) == ["till", "web"]
    assert judged_apart([archive, till], DAY) == ["till"]
    assert judged_apart([archive, till], DAY - timedelta(days=1)) == ["archive", "till"]


def test_one_odd_week_does_not_move_the_median() -> None:
    days = judged_days(RUN_DATE, CONFIG)
    by_day = {day: {TOTAL: 1000} for day in days}
    by_day[days[3]] = {TOTAL: 0}  # a holiday
    assert judge_volume(DayCounts(days[-1], by_day), RUN_DATE, CONFIG)[0].verdict == "ok"


def test_a_refusal_names_what_is_missing_what_serves_and_both_ways_on() -> None:
    findings = list(judged({TOTAL: 100, UK: 100}, {TOTAL: 1000, UK: 850}).values())
    with pytest.raises(Refused) as error:
        refuse(findings, RUN_DATE, live="2024-02-28-abc")
    said = str(error.value)
    assert "all events: short: 100 events on 2024-02-29, 10% of the usual 1000" in said
    assert "UK: short" in said
    assert "Nothing was written; release 2024-02-28-abc keeps serving" in said
    assert "run ingest again for 2024-03-01" in said
    assert '--accept-volume "reason"' in said


def test_what_is_accepted_keeps_the_reason_beside_what_was_found() -> None:
    findings = accept(list(judged({TOTAL: 0}, {TOTAL: 1000}).values()), "storm, shops closed")
    assert [(f.verdict, f.reason) for f in findings] == [
        ("accepted", "storm, shops closed (missing: no event on 2024-02-29)")
    ]
    refuse(findings, RUN_DATE, live=None)  # nothing left to refuse
