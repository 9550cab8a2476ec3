"""Every raw row once: unparsable, a repeat, broken rules, or accepted; and what it says in our columns."""

from __future__ import annotations

from datetime import date

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import ConfigError
from recsys.ingest import rules
from recsys.ingest.description import SourceDescription
from recsys.ingest.parsing import did_not_parse, typed
from recsys.ingest.raw_rows import RawRows
from recsys.ingest.text_rows import FILE, POSITION, PROBLEM, RAW_ROW, ROW_KEY

STATUS = "_status"
ACCEPTED = "accepted"
QUARANTINED = "quarantined"
DUPLICATE = "duplicate"
END_OF_FILE = "end_of_file"
REASONS = "_reasons"
FACTS = "_facts"
"""What an event's row tells about its item."""
SEGMENT = "segment"
"""The attribute that keeps the segment an event's row names."""
ALWAYS = date(1970, 1, 1)

_TYPE_OF_COLUMN = {
    c.name: c.type for t in (contracts.EVENTS, contracts.ITEMS, contracts.USERS) for c in t.columns
}


def judge_rows(raw: RawRows, config: RecsysConfig, run_date: date) -> DataFrame:
    """One row per raw row: the kind's contract columns, STATUS, REASONS, POSITION, and RAW_ROW unless accepted.

    In this order: unparsable (quarantined), a repeat of an earlier row's key in its file (duplicate; an
    unparsable row has no key), breaking rules in conf's order (quarantined, all reasons kept), accepted.

    Raises:
        ConfigError: SQL in the description does not fit its raw columns.
    """
    description = raw.description
    try:
        return _judge(raw, config, run_date)
    except (AnalysisException, ParseException) as error:
        first = str(error).splitlines()[0][:300]
        raise ConfigError(
            f"source {description.name!r}: its SQL does not fit its raw columns: {first}. "
            f"Raw columns: {', '.join(description.raw_columns)}"
        ) from None


def _judge(raw: RawRows, config: RecsysConfig, run_date: date) -> DataFrame:
    description = raw.description
    parsed = _parsed(raw)
    earlier = (
        Window.partitionBy(FILE, ROW_KEY)
        .orderBy(POSITION)
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    is_sound = F.size("_unparsable") == 0
    numbered = parsed.withColumn("_repeat", is_sound & (F.count_if(is_sound).over(earlier) > 0))
    described = numbered.select(
        FILE, POSITION, RAW_ROW, "_unparsable", "_repeat", *_contract_columns(description, config),
        F.concat(rules.broken_rules(description), _unfit(description)).alias("_broken"),
        _facts(description).alias(FACTS),
    )  # fmt: skip
    return (
        described.withColumn(REASONS, _all_reasons(description, run_date))
        .withColumn(STATUS, _status())
        .withColumn(RAW_ROW, F.when(F.col(STATUS) != ACCEPTED, F.col(RAW_ROW)))
        .drop("_unparsable", "_repeat", "_broken")
    )


def _parsed(raw: RawRows) -> DataFrame:
    """Raw columns in their types; ``_unparsable`` lists what did not parse, and such rows have no key."""
    types = {f.name: f.dataType for f in raw.rows.schema}
    wanted = raw.description.raw_columns
    values = {
        name: typed(name, type_, types[name], raw.description) for name, type_ in wanted.items()
    }
    failed = [
        F.when(did_not_parse(name, values[name], types[name]), F.lit(f"unparsable_{_code(name)}"))
        for name in wanted
        if wanted[name] != types[name].simpleString()
    ]
    unparsable = F.array_compact(F.array(F.col(PROBLEM), *failed))
    # One task reads a file, however large; by key the rows go on to all of them, and repeats are together.
    by_key = raw.rows.repartition(FILE, ROW_KEY)
    return by_key.select(
        FILE, POSITION, RAW_ROW, ROW_KEY,
        unparsable.alias("_unparsable"),
        *[value.alias(name) for name, value in values.items()],
    )  # fmt: skip


def _contract_columns(description: SourceDescription, config: RecsysConfig) -> list[Column]:
    filled = {
        name: rules.fitted(m, _TYPE_OF_COLUMN[name]) for name, m in description.columns.items()
    }
    filled["source"] = F.lit(description.name)
    filled["source_file"] = F.col(FILE)
    attributes = {name: rules.mapped(m) for name, m in description.attributes.items()}
    if description.kind == "events":
        assert description.event_type is not None  # the description checks it
        filled["event_id"] = F.col(ROW_KEY)
        filled["event_type"] = rules.event_type(description.event_type)
        local = F.from_utc_timestamp(filled["event_ts"], config.shop.time_zone)
        filled["event_date"] = F.to_date(local)
        if description.quantity_sign == "returns_negative" and "quantity" in filled:
            quantity = filled["quantity"]
            sign = F.when(filled["event_type"] == "return", -quantity).otherwise(quantity)
            filled["quantity"] = sign.cast(_TYPE_OF_COLUMN["quantity"])
        if description.segment:
            attributes[SEGMENT] = rules.mapped(description.segment)
    else:
        since = description.valid_from
        filled["valid_from"] = rules.fitted(since, "date") if since else F.lit(ALWAYS)
    filled["attributes"] = _attributes(attributes)
    return [
        filled.get(column.name, F.lit(None)).cast(column.type).alias(column.name)
        for column in description.contract.columns
    ]


def _unfit(description: SourceDescription) -> Column:
    given = description.columns | description.items
    if description.valid_from:
        given = given | {"valid_from": description.valid_from}
    return rules.unfit(given, _TYPE_OF_COLUMN)


def _attributes(values: dict[str, Column]) -> Column:
    """A map without the nulls; null when nothing is left."""
    if not values:
        return F.lit(None)
    pairs = F.create_map(
        *[x for name, value in values.items() for x in (F.lit(name), value.cast("string"))]
    )
    kept = F.map_filter(pairs, lambda _, value: value.isNotNull())
    return F.when(F.size(kept) > 0, kept)


def _facts(description: SourceDescription) -> Column:
    if not description.items:
        return F.lit(None)
    return F.struct(*[
        rules.fitted(m, _TYPE_OF_COLUMN[name]).alias(name) for name, m in description.items.items()
    ])  # fmt: skip


def _all_reasons(description: SourceDescription, run_date: date) -> Column:
    """Unparsable alone; else the description's rules, then ours where those found nothing."""
    broken = F.col("_broken")
    if description.kind == "events":
        broken = F.concat(broken, rules.future_dated(description, run_date))
        ours = rules.broken_event_contract()
    else:
        key = "item_id" if description.kind == "items" else "user_id"
        first_of_key = Window.partitionBy(FILE, key, "valid_from", _is_clean()).orderBy(POSITION)
        again = _is_clean() & F.col(key).isNotNull() & (F.row_number().over(first_of_key) > 1)
        ours = F.concat(
            rules.missing(key, "valid_from"),
            F.when(again, F.array(F.lit(f"repeated_{key}"))).otherwise(
                F.array().cast("array<string>")
            ),
        )
    broken = F.when(F.size(broken) > 0, broken).otherwise(ours)
    unread = (F.size("_unparsable") > 0) | (F.col(POSITION) < 0)
    return F.when(unread, F.col("_unparsable")).otherwise(broken)


def _is_clean() -> Column:
    return (F.size("_unparsable") == 0) & ~F.col("_repeat") & (F.size("_broken") == 0)


def _status() -> Column:
    return (
        F.when(F.col(POSITION) < 0, END_OF_FILE)
        .when(F.size("_unparsable") > 0, QUARANTINED)
        .when(F.col("_repeat"), DUPLICATE)
        .when(F.size(REASONS) > 0, QUARANTINED)
        .otherwise(ACCEPTED)
    )


def _code(name: str) -> str:
    """A raw column's name as part of a reason code: Customer ID -> customer_id."""
    snake = "".join(c if c.isalnum() else "_" for c in name)
    return "".join(f"_{c.lower()}" if c.isupper() and i and snake[i - 1].islower() else c.lower()
                   for i, c in enumerate(snake))  # fmt: skip
