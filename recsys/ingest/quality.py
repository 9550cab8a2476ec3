"""The counts of an ingest: do they add up, is too much refused, and the rows of data_quality that keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.errors import ContractError, CorruptArtifact, Refused
from recsys.ingest.judged_rows import ACCEPTED, DUPLICATE, END_OF_FILE, QUARANTINED, REASONS, STATUS
from recsys.ingest.raw_rows import RawRows
from recsys.ingest.text_rows import FILE, POSITION, RAW_ROW
from recsys.ingest.volume import Finding

JOB = "ingest"
_SHOWN = 5


@dataclass
class FileCounts:
    """One unit's rows: raw = accepted + quarantined + duplicates."""

    source: str
    file: str
    raw: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Rows per reason code; a row with two reasons counts for both."""
    problem: str = ""
    """Why the file could not be read to its end."""
    unexpected: tuple[str, ...] = ()

    @property
    def quarantined_share(self) -> float:
        return self.quarantined / self.raw if self.raw else 0.0


def count_rows(judged: DataFrame, raw: RawRows) -> list[FileCounts]:
    """Count a source's judged rows by file, verdict and reason. One pass; collects combinations, not rows."""
    counts = {
        name: FileCounts(
            raw.description.name,
            name,
            raw.counted.get(name, 0),
            unexpected=tuple(raw.unexpected.get(name, ())),
        )
        for name in raw.unit_names
    }
    # An example row per group would be one min() more, and of a text that costs a sort of all rows.
    read = F.when(F.col(STATUS) == END_OF_FILE, F.col(RAW_ROW).cast("bigint"))
    groups = (
        judged.groupBy(FILE, STATUS, REASONS)
        .agg(F.count(F.lit(1)).alias("rows"), F.max(read).alias("read"))
        .orderBy(FILE, STATUS, REASONS)
        .collect()
    )
    for group in groups:
        file = counts[group[FILE]]
        if group[STATUS] == END_OF_FILE:
            file.raw = int(group["read"])
            file.problem = (group[REASONS] or [""])[0]
        elif group[STATUS] == ACCEPTED:
            file.accepted += group["rows"]
        elif group[STATUS] == DUPLICATE:
            file.duplicates += group["rows"]
        else:
            assert group[STATUS] == QUARANTINED
            file.quarantined += group["rows"]
            for reason in group[REASONS]:
                file.reasons[reason] = file.reasons.get(reason, 0) + group["rows"]
    return list(counts.values())


def check_counts(
    files: list[FileCounts], judged: Mapping[str, DataFrame], max_quarantined_share: float
) -> None:
    """Refuse files that break off or are mostly refused; fail when rows were lost or made up.

    ``judged`` holds each source's rows, for the examples in messages.

    Raises:
        CorruptArtifact: a file could not be read to its end.
        ContractError: raw is not accepted + quarantined + duplicates.
        Refused: a file's quarantined share is above the limit; its reasons are named with an example each.
    """
    if broken := [f for f in files if f.problem]:
        raise CorruptArtifact(
            f"source {broken[0].source!r}: " + "\n  ".join(f.problem for f in broken[:_SHOWN])
        )
    for f in files:
        if f.raw != f.accepted + f.quarantined + f.duplicates:
            raise ContractError(
                f"source {f.source!r}, file {f.file}: {f.raw} raw rows are not {f.accepted} accepted + "
                f"{f.quarantined} quarantined + {f.duplicates} duplicates. Nothing was written; this is a defect "
                "of ingest, please report it with the file"
            )
    if refused := [f for f in files if f.quarantined_share > max_quarantined_share]:
        raise Refused(
            "\n".join(
                _share_message(f, judged[f.source], max_quarantined_share) for f in refused[:_SHOWN]
            )
            + (f"\n… and {len(refused) - _SHOWN} files more" if len(refused) > _SHOWN else "")
            + "\nNothing was written. Have the file delivered as described, mend the source's description, or "
            "raise ingest.max_quarantined_share"
        )


def _share_message(f: FileCounts, judged: DataFrame, limit: float) -> str:
    lines = []
    for reason, rows in sorted(f.reasons.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]:
        with_reason = judged.where((F.col(FILE) == f.file) & F.array_contains(REASONS, reason))
        example = with_reason.agg(F.min_by(RAW_ROW, POSITION)).first()
        assert example is not None
        lines.append(f"{reason}: {rows} rows, the first {example[0][:120]!r}")
    return (
        f"source {f.source!r}, file {f.file}: {f.quarantined} of {f.raw} rows ({f.quarantined_share:.1%}) are "
        f"quarantined, at most {limit:.1%} may be:\n  " + "\n  ".join(lines)
    )


QualityRow = tuple[date, str, str, str, str, str, float | None, str | None, str | None, str | None]


def quality_rows(
    files: list[FileCounts], findings: list[Finding], run_date: date, max_quarantined_share: float
) -> list[QualityRow]:
    """The rows of data_quality of one run, in the contract's column order."""
    rows: list[QualityRow] = []
    head = (run_date, JOB)
    for f in files:
        place = (f.source, f.file)
        for what in ("raw", ACCEPTED, QUARANTINED, "duplicates"):
            rows.append((*head, "rows", *place, what, float(getattr(f, what)), None, "ok", None))
        for reason, count in sorted(f.reasons.items()):
            rows.append((*head, "reason", *place, reason, float(count), None, "noted", None))
        wanted = f"at most {max_quarantined_share:g}"
        share = round(f.quarantined_share, 6)
        rows.append((*head, "quarantined_share", *place, "", share, wanted, "ok", None))
        for name in f.unexpected:
            text = "a column that the description does not name"
            rows.append((*head, "unexpected_column", *place, name, None, None, "noted", text))
    for v in findings:
        source, segment = v.part
        judged = (source or segment, float(v.found), v.wanted, v.verdict, v.reason)
        rows.append((*head, "volume", source, "", *judged))
    return rows


def reconciliation(files: list[FileCounts]) -> str:
    """The counts per source as a table for people, every reason on a line."""
    lines = []
    for source in dict.fromkeys(f.source for f in files):
        own = [f for f in files if f.source == source]
        total = {
            w: sum(getattr(f, w) for f in own)
            for w in ("raw", "accepted", "quarantined", "duplicates")
        }
        lines.append(f"{source} ({len(own)} file{'s' if len(own) > 1 else ''})")
        lines += [f"  {what:<28}{count:>12,}" for what, count in total.items()]
        reasons: dict[str, int] = {}
        for f in own:
            for reason, count in f.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
        lines += [
            f"    {r:<26}{n:>12,}" for r, n in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))
        ]
    return "\n".join(lines)
