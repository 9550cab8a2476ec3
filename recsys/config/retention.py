"""How long things are kept, and what an audit looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from recsys.config.base import Config
from recsys.contracts import TABLES, TableContract

Days = Annotated[int, Field(ge=1)]

DAY_COLUMNS = ("as_of", "version", "run_date")
"""What the rows of a table that is partitioned by it may be kept by."""

CUT_OFF_DAYS = 63
"""The oldest cut-off of a night that trained a week ago, with evaluation.window_days=28."""
LIST_DAYS = 35

DEFAULT_DAYS = {
    "vocabularies": CUT_OFF_DAYS,
    "user_features": CUT_OFF_DAYS,
    "item_features": CUT_OFF_DAYS,
    "histories": CUT_OFF_DAYS,
    "seen_items": CUT_OFF_DAYS,
    "item_similarity": CUT_OFF_DAYS,
    "transitions": CUT_OFF_DAYS,
    "reorder_intervals": CUT_OFF_DAYS,
    "popularity": CUT_OFF_DAYS,
    "training_examples": CUT_OFF_DAYS,
    "item_vectors": CUT_OFF_DAYS,
    "top_n_lists": LIST_DAYS,
    "similar_items": LIST_DAYS,
    "also_bought": LIST_DAYS,
    "popular_items": LIST_DAYS,
    "rules": LIST_DAYS,
    "served_history": 90,
}


def day_column(contract: TableContract) -> str | None:
    """The column that a table's rows are kept by; None where it is not partitioned by a day."""
    return next((name for name in DAY_COLUMNS if name in contract.partitioned_by), None)


class RetentionConfig(Config):
    """What clean_up leaves. Days count back from the run date, or from the live release's where that is older."""

    days: Mapping[str, Days | None] = DEFAULT_DAYS
    """Days of each table that stay; null, and a table that is not named here: all. What the cut-offs of the run date,
    a release on the shelf or a running job may read stays all the same, and so does a table's newest day."""
    vacuum_hours: int = Field(168, ge=1)
    """Files that no version needs any more stay for so long: a reader may be in the middle of them."""
    optimize: tuple[str, ...] = (
        "events", "items", "users", "quarantine", "data_quality", "metrics", "metric_slices", "gate_verdicts",
        "releases",
    )  # fmt: skip
    """Tables whose small files are joined; those that one write makes whole have no need of it."""
    small_files: int = Field(16, ge=2)
    """A table, or a partition of one, with at least so many small files is joined."""
    model_days: Days = 14
    """Nights whose models stay, beside those of releases on the shelf; their checkpoints, too."""
    record_days: Days = CUT_OFF_DAYS
    """Nights whose records (what was trained, evaluated, scored) stay."""
    report_days: Days = 90
    work_days: Days = 7
    """Scratch files that were not touched for so long go."""

    @field_validator("days", mode="before")
    @classmethod
    def _over_the_defaults(cls, days: Any) -> Any:
        """Conf names what it changes."""
        return {**DEFAULT_DAYS, **days} if isinstance(days, dict) else days

    @field_validator("days")
    @classmethod
    def _tables_with_days(cls, days: Mapping[str, int | None]) -> Mapping[str, int | None]:
        for name in days:
            if name not in TABLES:
                raise ValueError(f"no table {name!r}; tables are {', '.join(TABLES)}")
            if day_column(TABLES[name]) is None:
                raise ValueError(
                    f"table {name!r} is not partitioned by a day, so its rows are all kept"
                )
        return days

    @field_validator("optimize")
    @classmethod
    def _tables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in TABLES]:
            raise ValueError(f"no table {unknown[0]!r}; tables are {', '.join(TABLES)}")
        return names


class AuditConfig(Config):
    """What audit_release asks."""

    services: tuple[str, ...] = ()
    """Lookup services by URL, such as http://127.0.0.1:8000, that are asked for users' lists; none by default."""
    service_users: int = Field(100_000, ge=1)
    """Users that each service is asked for; all where there are fewer."""
    connections: int = Field(4, ge=1)
    """Requests to a service at a time: less than serving.max_in_flight of one worker, or customers wait."""
    timeout_seconds: float = Field(10.0, gt=0)
    """For one answer of a service."""
    fresh_users: int = Field(1000, ge=1)
    """Users, chosen by hash, who are scored anew."""
