"""What conf says about one raw source: where it lies, how it is read, what its columns mean, what is refused."""

from __future__ import annotations

import difflib
import re
from datetime import date
from typing import Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from recsys.config.base import Config
from recsys.contracts import EVENT_TYPES, EVENTS, ITEMS, USERS, TableContract

CONTRACT_OF_KIND: dict[str, TableContract] = {"events": EVENTS, "items": ITEMS, "users": USERS}

# Columns that ingest fills itself; a description maps the others.
_OWN = {"event_id", "event_type", "event_date", "source", "source_file", "attributes", "valid_from"}
_NEEDED = {"events": {"event_ts"}, "items": {"item_id"}, "users": {"user_id"}}
_RAW_TYPE = re.compile(r"(string|int|bigint|double|boolean|date|timestamp|decimal\(\d+,\s*\d+\))\Z")
_REASON = re.compile(r"[a-z][a-z0-9_]*\Z")


class Format(Config):
    """How a file is cut into rows and columns. A name that ends in .gz is read through gzip."""

    type: Literal["csv", "json_lines", "parquet", "delta", "table"] = "csv"
    """delta: a folder; table: a name in Spark's catalog. Of both, one value of ``partition`` is the unit."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', min_length=1, max_length=1)
    header: bool = True
    """Without one, ``raw_columns`` name the columns in the file's order."""
    encoding: str = "utf-8-sig"
    """utf-8-sig reads UTF-8 with or without a byte order mark."""
    max_row_lines: int = Field(100, ge=1)
    """A quote that stays open for more lines is taken for a stray one: it costs its row, not the file."""

    @property
    def is_text(self) -> bool:
        return self.type in {"csv", "json_lines"}


class Condition(Config):
    """What is true of a row. Everything that is given must hold; null passes all but ``not_null``."""

    column: str = ""
    """The raw column that the tests below look at."""
    matches: str = ""
    """A regular expression that is found in the text."""
    not_matches: str = ""
    one_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    not_null: bool = False
    sql: str = ""
    """Or a Spark SQL condition over the raw columns, for what the tests above cannot say."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        tests = self.model_fields_set - {"column", "sql", "reason"}
        if bool(tests) != bool(self.column):
            raise ValueError(
                "a condition takes `column` together with a test of it (matches, one_of, above, …)"
            )
        if not tests and not self.sql:
            raise ValueError("a condition takes a test of a `column`, or `sql`")
        for pattern in (self.matches, self.not_matches):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return self


class Rule(Condition):
    """A row for which the condition does not hold is quarantined with ``reason``."""

    reason: str

    @field_validator("reason")
    @classmethod
    def _is_a_code(cls, reason: str) -> str:
        if not _REASON.match(reason):
            raise ValueError(f"a reason code is lower case, such as price_negative; got {reason!r}")
        return reason


class Mapped(Config):
    """One value of our row: a raw column, or SQL over the raw columns, or always the same text."""

    column: str = ""
    sql: str = ""
    constant: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(map(bool, (self.column, self.sql, self.constant))) != 1:
            raise ValueError("takes a raw column's name, or one of `column`, `sql` and `constant`")
        return self


class TypeCase(Config):
    """``type`` where the condition holds; without a condition, everywhere."""

    type: str
    when: Condition | None = None


class EventType(Config):
    """How a row's event type is found: the first case that holds, or a raw column's text looked up."""

    cases: tuple[TypeCase, ...] = ()
    column: str = ""
    values: dict[str, str] = {}
    """Raw text -> event type; what is not listed is quarantined as unknown_event_type."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"cases": [{"type": value}]}
        return {"cases": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _types_are_known(self) -> Self:
        if bool(self.cases) == bool(self.column and self.values):
            raise ValueError(
                "event_type takes one type, a list of cases, or `column` with `values`"
            )
        types = [case.type for case in self.cases] + list(self.values.values())
        for unknown in sorted(set(types) - set(EVENT_TYPES)):
            raise ValueError(f"unknown event type {unknown!r}{nearest(unknown, EVENT_TYPES)}")
        return self


class SourceDescription(Config):
    """One raw source. The name is the file's: conf/base/sources/NAME.yml."""

    name: str
    kind: Literal["events", "items", "users"]
    pattern: str = ""
    """Files (or one delta folder), as a glob; relative to the checkout, absolute, or a URI. {day} is the day
    before the run date, {run_date} the run date, {paths.root} and the like what the configuration says."""
    undated_pattern: str = ""
    """Ingest fills it, as it does ``name``: the pattern with {day} and {run_date} still in it. Units are named
    by it, so that a file keeps its name whether a night asks for its day or for all days."""
    table: str = ""
    """Name in Spark's catalog, for format table."""
    partition: str = ""
    """Of a delta or catalog table: the column whose values are the units; empty takes the table as one."""
    partition_value: str = ""
    """The one value of ``partition`` that is read; empty reads all. Takes the placeholders of ``pattern``."""
    format: Format = Format()
    time_zone: str = "UTC"
    """Zone of timestamps that name none."""
    timestamp_formats: tuple[str, ...] = ("yyyy-MM-dd HH:mm:ss",)
    """Spark patterns, the first that fits; or epoch_seconds, epoch_millis."""
    covers_until: date | None = None
    """For an archive: first day it does not cover. A row is future-dated from the later of this day and the
    day after the run date on, so that an earlier run date loses nothing of an archive."""
    raw_columns: dict[str, str] = Field(min_length=1)
    """Raw name -> type that its text must parse as."""
    key: tuple[str, ...] = ()
    """Raw columns that make a later row a duplicate; empty takes every column of the file."""
    columns: dict[str, Mapped]
    """Our column -> where it comes from."""
    attributes: dict[str, Mapped] = {}
    """What only this shop has, by the shop's own names."""
    segment: Mapped | None = None
    """Events: the user's segment as the row says it. Kept as attribute ``segment``, and gives ``users``."""
    event_type: EventType | None = None
    quantity_sign: Literal["positive", "returns_negative"] = "positive"
    """returns_negative: returns come with negative quantities, everything else with positive ones."""
    rules: tuple[Rule, ...] = ()
    items: dict[str, Mapped] = {}
    """Events: what the rows tell about their items; gives ``items``."""
    valid_from: Mapped | None = None
    """Items and users: the day since when it is known. Default 1970-01-01, always. A constant takes the
    placeholders of ``pattern``: {day} is known to the lists of the run date, {run_date} only to later ones."""

    @field_validator("attributes", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(
                f"unknown time zone {zone!r}; use an IANA name such as 'Europe/London'"
            )
        return zone

    @field_validator("raw_columns")
    @classmethod
    def _types_are_known(cls, columns: dict[str, str]) -> dict[str, str]:
        for name, type_ in columns.items():
            if not _RAW_TYPE.match(type_):
                raise ValueError(
                    f"{name}: unknown type {type_!r}; known: string, int, bigint, double, boolean, date, "
                    "timestamp, decimal(p,s)"
                )
            if name.startswith("_"):
                raise ValueError(f"{name}: names that begin with _ are ingest's own")
        return columns

    @model_validator(mode="after")
    def _place_fits_the_format(self) -> Self:
        if bool(self.table) != (self.format.type == "table"):
            raise ValueError("`table` goes with format type table, and with it alone")
        if bool(self.pattern) == bool(self.table):
            raise ValueError("takes `pattern` (files, a delta folder) or `table`, one of them")
        if self.partition and self.format.type not in {"delta", "table"}:
            raise ValueError(
                "`partition` goes with the formats delta and table; of files, the file is the unit"
            )
        if self.partition_value and not self.partition:
            raise ValueError("`partition_value` needs `partition`, the column that has this value")
        return self

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        known = [c for c in self.contract.column_names if c not in _OWN]
        for name in self.columns:
            if name not in known:
                raise ValueError(
                    f"columns: {self.contract.name} has no {name!r} to fill{nearest(name, known)}"
                )
        if missing := _NEEDED[self.kind] - set(self.columns):
            raise ValueError(f"columns: {', '.join(sorted(missing))} must be mapped")
        item_facts = [c for c in ITEMS.column_names if c not in _OWN and c != "item_id"]
        for name in self.items:
            if name not in item_facts:
                raise ValueError(f"items: there is no {name!r} to fill{nearest(name, item_facts)}")
        for where, raw in self._raw_names_used():
            if raw not in self.raw_columns:
                raise ValueError(f"{where}: no raw column {raw!r}{nearest(raw, self.raw_columns)}")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        events = self.kind == "events"
        if events != (self.event_type is not None):
            raise ValueError("`event_type` goes with kind events, and must be given there")
        given = self.model_fields_set & (
            {"valid_from"} if events else {"segment", "items", "quantity_sign"}
        )
        if given:
            raise ValueError(f"{', '.join(sorted(given))}: not for kind {self.kind}")
        reasons = [rule.reason for rule in self.rules]
        if repeated := sorted({r for r in reasons if reasons.count(r) > 1}):
            raise ValueError(f"rules: reason codes given twice: {', '.join(repeated)}")
        return self

    @property
    def contract(self) -> TableContract:
        return CONTRACT_OF_KIND[self.kind]

    def _raw_names_used(self) -> list[tuple[str, str]]:
        used = [("key", name) for name in self.key]
        mapped = self.columns | self.attributes | self.items
        used += [(f"column {name}", m.column) for name, m in mapped.items() if m.column]
        used += [(what, m.column) for what, m in (("segment", self.segment), ("valid_from", self.valid_from))
                 if m is not None and m.column]  # fmt: skip
        used += [(f"rule {rule.reason}", rule.column) for rule in self.rules if rule.column]
        if self.event_type:
            whens = [case.when for case in self.event_type.cases if case.when]
            used += [
                ("event_type", name)
                for name in (self.event_type.column, *(w.column for w in whens))
                if name
            ]
        return used


def nearest(name: str, known: Any) -> str:
    """``; did you mean 'x'?``, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
