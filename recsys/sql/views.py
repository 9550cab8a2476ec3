"""Views over the tables, once. Only how an array becomes rows differs between DuckDB and Spark SQL."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.sql.why_not import DUCKDB, NEEDS, SPARK


@dataclass(frozen=True)
class View:
    """A view: its text in both dialects, and the tables and earlier views it needs."""

    name: str
    meaning: str
    needs: tuple[str, ...]
    duckdb: str
    spark: str


# The title that was true at as_of; the sort key breaks ties between sources of one day.
_WITH_TITLES = """
SELECT p.user_id, p.as_of, p.rank, p.item_id, t.title, p.score, p.source, p.model_version
FROM ({places}) p
LEFT JOIN (
  SELECT d.as_of, i.item_id,
         max_by(i.title, CAST(i.valid_from AS STRING) || i.source || i.source_file) AS title
  FROM items i JOIN (SELECT DISTINCT as_of FROM top_n_lists) d ON i.valid_from < d.as_of
  WHERE i.title IS NOT NULL
  GROUP BY d.as_of, i.item_id
) t ON t.as_of = p.as_of AND t.item_id = p.item_id
"""

TOP_N = View(
    name="top_n",
    meaning="One row per (user_id, as_of, rank), with the item's title at that day",
    needs=("top_n_lists", "items"),
    duckdb=_WITH_TITLES.format(
        places="""
  SELECT user_id, as_of, CAST(unnest(range(1, len(item_ids) + 1)) AS INTEGER) AS rank,
         unnest(item_ids) AS item_id, unnest(scores) AS score, unnest(sources) AS source, model_version
  FROM top_n_lists"""
    ),
    spark=_WITH_TITLES.format(
        places="""
  SELECT user_id, as_of, pos + 1 AS rank,
         place.item_ids AS item_id, place.scores AS score, place.sources AS source, model_version
  FROM top_n_lists LATERAL VIEW posexplode(arrays_zip(item_ids, scores, sources)) AS pos, place"""
    ),
)

_OF_THE_NEWEST_DAY = "SELECT * FROM top_n WHERE as_of = (SELECT max(as_of) FROM top_n_lists)"

TOP_N_TODAY = View(
    name="top_n_today",
    meaning="The rows of top_n of its newest as_of: what customers are offered now",
    needs=("top_n",),
    duckdb=_OF_THE_NEWEST_DAY,
    spark=_OF_THE_NEWEST_DAY,
)

QUARANTINE_REASONS = View(
    name="quarantine_reasons",
    meaning="One row per refused row and reason",
    needs=("quarantine",),
    duckdb="""
SELECT source, source_file, row_hash, copy, unnest(reasons) AS reason, raw_row FROM quarantine
""",
    spark="""
SELECT source, source_file, row_hash, copy, explode(reasons) AS reason, raw_row FROM quarantine
""",
)

RULE_ITEMS = View(
    name="rule_items",
    meaning="One row per rule of stage 1, segment it is for ('' for everybody) and item it takes",
    needs=("rules",),
    duckdb="SELECT as_of, rule, segment, unnest(item_ids) AS item_id FROM rules",
    spark="SELECT as_of, rule, segment, explode(item_ids) AS item_id FROM rules",
)

WHY_NOT = View(
    name="why_not",
    meaning="One row per user with a list, and item: its rank there, or why it is not there",
    needs=NEEDS,
    duckdb=DUCKDB,
    spark=SPARK,
)

VIEWS = (TOP_N, TOP_N_TODAY, QUARANTINE_REASONS, RULE_ITEMS, WHY_NOT)
