"""Conditions of conf as Spark columns, and the reasons of a row that breaks them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys.contracts import EVENT_TYPES
from recsys.ingest.description import Condition, EventType, Mapped, SourceDescription

FUTURE_DATED = "future_dated"


def holds(condition: Condition) -> Column:
    """True where the condition holds; null passes, as in a CHECK constraint, unless ``not_null`` asks."""
    tests: list[Column] = []
    if condition.column:
        value = F.col(f"`{condition.column}`")
        if condition.matches:
            tests.append(value.rlike(condition.matches))
        if condition.not_matches:
            tests.append(~value.rlike(condition.not_matches))
        if condition.one_of:
            tests.append(value.cast("string").isin(*condition.one_of))
        if condition.none_of:
            tests.append(~value.cast("string").isin(*condition.none_of))
        if condition.above is not None:
            tests.append(value > condition.above)
        if condition.below is not None:
            tests.append(value < condition.below)
        if condition.at_least is not None:
            tests.append(value >= condition.at_least)
        if condition.at_most is not None:
            tests.append(value <= condition.at_most)
    if condition.sql:
        tests.append(F.expr(condition.sql))
    result = F.lit(True)
    for test in tests:
        result = result & F.coalesce(test, F.lit(True))
    return result & F.col(f"`{condition.column}`").isNotNull() if condition.not_null else result


def mapped(mapping: Mapped) -> Column:
    """The value that a mapping gives for a row of typed raw columns."""
    if mapping.column:
        return F.col(f"`{mapping.column}`")
    return F.expr(mapping.sql) if mapping.sql else F.lit(mapping.constant)


def fitted(mapping: Mapped, type_: str) -> Column:
    """The value as our column's type; null where the type cannot hold it."""
    return mapped(mapping).try_cast(type_)


def unfit(mappings: Mapping[str, Mapped], types: Mapping[str, str]) -> Column:
    """``unfit_<column>`` for each value that is there and that its column's type cannot hold."""
    return _reasons([
        (f"unfit_{name}", mapped(m).isNotNull() & fitted(m, types[name]).isNull())
        for name, m in mappings.items()
    ])  # fmt: skip


def event_type(description: EventType) -> Column:
    """The row's event type; null where none of the cases holds or the text is not listed."""
    if description.column:
        pairs = [F.lit(text) for pair in description.values.items() for text in pair]
        return F.try_element_at(
            F.create_map(*pairs), F.col(f"`{description.column}`").cast("string")
        )
    result = F.lit(None).cast("string")
    for case in reversed(description.cases):
        result = (
            F.when(holds(case.when), F.lit(case.type)).otherwise(result)
            if case.when
            else F.lit(case.type)
        )
    return result


def broken_rules(description: SourceDescription) -> Column:
    """The reasons of the description's rules that a row breaks, in conf's order."""
    return _reasons([(rule.reason, ~holds(rule)) for rule in description.rules])


def future_dated(description: SourceDescription, run_date: date) -> Column:
    """The reason of an event that cannot have happened yet.

    An event of the run date itself is none: a file fetched in the small hours has a few. Nor is one that
    an archive covers: an earlier run date must not lose the archive's later rows.
    """
    limit = max(run_date + timedelta(days=1), description.covers_until or date.min)
    return _reasons([(FUTURE_DATED, F.col("event_date") >= F.lit(limit))])


def broken_event_contract() -> Column:
    """What the events table asks of every row, where no rule of the description said it before."""
    type_ = F.col("event_type")
    return _reasons([
        ("no_event_ts", F.col("event_ts").isNull()),
        ("unknown_event_type", type_.isNull() | ~type_.isin(*EVENT_TYPES)),
        ("no_item_id", (type_ != "search") & F.col("item_id").isNull()),
        ("wrong_quantity_sign", F.col("quantity") <= 0),
        ("negative_unit_price", F.col("unit_price") < 0),
    ])  # fmt: skip


def missing(*columns: str) -> Column:
    """``no_<column>`` for each of these that is null."""
    return _reasons([(f"no_{name}", F.col(name).isNull()) for name in columns])


def _reasons(tests: list[tuple[str, Column]]) -> Column:
    if not tests:
        return F.array().cast("array<string>")
    return F.array_compact(
        F.array(
            *[F.when(F.coalesce(broken, F.lit(False)), F.lit(reason)) for reason, broken in tests]
        )
    )
