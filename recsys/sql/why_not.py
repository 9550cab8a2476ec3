"""The view ``why_not``: why an item is not in a user's list.

A row per user and item is more than anybody reads, so each part is joined by the columns that a question fixes:
both engines carry ``user_id = …`` and ``item_id = …`` down to the tables before they join.
"""

from __future__ import annotations

from recsys.contracts import EVENT_TYPES

NEEDS = (
    "top_n_lists",
    "rules",
    "rule_items",
    "vocabularies",
    "histories",
    "seen_items",
    "events",
    "items",
    "users",
    "scored_days",
    "blocked_items",
)

# What was known at a day, newest first; the rest of the sort key breaks ties between sources of one day.
_SINCE = "CAST(valid_from AS STRING) || source || source_file"


# The full run whose numbers, segments, groups and windows the lists of a day rest on: its own day, but of those that
# score_changes made, as their record says.
_FULL = "coalesce(s.full_as_of, {of}.as_of)"
_RULES = f"""
  SELECT r.*, {_FULL.format(of="r")} AS full_as_of, coalesce(s.is_increment, false) AS is_increment
  FROM rules r LEFT JOIN scored_days s ON s.as_of = r.as_of"""

# Of those without a history of that day; with one, it says which segment they were of.
_SEGMENTS = f"""
  SELECT d.full_as_of, u.user_id, max_by(u.segment, {_SINCE}) AS segment
  FROM users u
  JOIN (SELECT DISTINCT full_as_of FROM ({_RULES}) r WHERE segment <> '') d ON u.valid_from < d.full_as_of
  WHERE u.segment IS NOT NULL
  GROUP BY d.full_as_of, u.user_id"""

# An item that is off since the live lists were made is in them, and in no answer.
_MASKED = """
  SELECT as_of, segment, item_id, {names} AS rules, bool_or(rule = 'blocked_now') AS is_off
  FROM (
    SELECT as_of, segment, item_id, rule FROM rule_items
    UNION
    SELECT run_date, '', item_id, 'blocked_now' FROM blocked_items
  ) taken
  GROUP BY as_of, segment, item_id"""

# Older rules do not say which items those are that were seen.
_SEEN = f"""
  SELECT i.user_id, r.as_of, i.item_nums
  FROM ({_RULES}) r
  JOIN seen_items i ON i.as_of = r.full_as_of
  WHERE r.rule = 'seen' AND (NOT r.is_increment OR r.definition = 'true')"""

# As the increment counted: its windows end at the full run, and hold whatever happened since.
_SEEN_SINCE = f"""
  SELECT DISTINCT w.as_of, e.user_id, e.item_id
  FROM (
    SELECT r.as_of, r.full_as_of, t.event_type,
           CAST({{json}}(r.definition, '$.' || t.event_type) AS INT) AS days
    FROM ({_RULES}) r
    CROSS JOIN (VALUES {", ".join(f"('{name}')" for name in EVENT_TYPES)}) AS t(event_type)
    WHERE r.rule = 'seen' AND r.is_increment
  ) w
  JOIN events e
    ON e.event_type = w.event_type AND e.event_date < w.as_of AND e.event_date >= w.full_as_of - w.days"""

_RETURNED = f"""
  SELECT DISTINCT r.as_of, e.user_id, e.item_id
  FROM ({_RULES}) r
  JOIN events e ON e.event_date < r.as_of AND e.event_date >= r.full_as_of - CAST(r.threshold AS INT)
  WHERE e.event_type = 'return' AND r.rule = 'returned'"""


def _groups(name: str) -> str:
    """The category or brand of each item at the full run, where a rule limits it."""
    return f"""
  SELECT r.as_of, i.item_id, max_by(i.{name}, {_SINCE}) AS {name}
  FROM ({_RULES}) r
  JOIN items i ON i.valid_from < r.full_as_of
  WHERE r.rule = 'max_per_{name}' AND i.{name} IS NOT NULL
  GROUP BY r.as_of, i.item_id"""


def _full(name: str) -> str:
    """The categories or brands of which a user's list holds all that the rule allows."""
    return f"""
  SELECT l.user_id, l.as_of, g.{name}
  FROM ({{places}}) l
  JOIN ({_groups(name)}) g ON g.as_of = l.as_of AND g.item_id = l.item_id
  JOIN rules r ON r.as_of = l.as_of AND r.rule = 'max_per_{name}'
  GROUP BY l.user_id, l.as_of, g.{name}
  HAVING count(*) >= max(r.threshold)"""


def _limited(name: str) -> str:
    return f"""
  LEFT JOIN ({_groups(name)}) {name}_of ON {name}_of.as_of = p.as_of AND {name}_of.item_id = p.item_id
  LEFT JOIN ({_full(name)}) full_{name}
    ON full_{name}.user_id = p.user_id AND full_{name}.as_of = p.as_of
    AND full_{name}.{name} = {name}_of.{name}"""


_WHY_NOT = f"""
SELECT user_id, as_of, item_id, rank,
       CASE WHEN rank IS NOT NULL THEN NULL WHEN masks <> '' THEN 1 WHEN limits <> '' THEN 3 END AS stage,
       CASE WHEN rank IS NOT NULL THEN 'shown' WHEN masks <> '' THEN masks WHEN limits <> '' THEN limits
            ELSE 'below_the_last_place' END AS reason
FROM (
  SELECT p.user_id, p.as_of, p.item_id, CASE WHEN for_all.is_off THEN NULL ELSE p.rank END AS rank,
         concat_ws(', ', for_all.rules, for_some.rules,
                   CASE WHEN {{is_seen}} OR seen_since.item_id IS NOT NULL THEN 'seen' END,
                   CASE WHEN returned.item_id IS NOT NULL THEN 'returned' END) AS masks,
         concat_ws(', ', CASE WHEN full_category.category IS NOT NULL THEN 'max_per_category' END,
                   CASE WHEN full_brand.brand IS NOT NULL THEN 'max_per_brand' END) AS limits
  FROM (
    SELECT l.user_id, l.as_of, v.version AS full_as_of, v.id AS item_id, v.num AS item_num,
           CAST(nullif({{position}}, 0) AS INT) AS rank
    FROM top_n_lists l
    LEFT JOIN scored_days s ON s.as_of = l.as_of
    JOIN vocabularies v ON v.version = {_FULL.format(of="l")}
    WHERE v.kind = 'item'
  ) p
  LEFT JOIN ({_MASKED}) for_all
    ON for_all.as_of = p.as_of AND for_all.item_id = p.item_id AND for_all.segment = ''
  LEFT JOIN histories h ON h.as_of = p.full_as_of AND h.user_id = p.user_id
  LEFT JOIN ({_SEGMENTS}) s ON s.full_as_of = p.full_as_of AND s.user_id = p.user_id
  LEFT JOIN ({_MASKED}) for_some
    ON for_some.as_of = p.as_of AND for_some.item_id = p.item_id
    AND for_some.segment = coalesce(h.segment, s.segment)
  LEFT JOIN ({_SEEN}) seen ON seen.user_id = p.user_id AND seen.as_of = p.as_of
  LEFT JOIN ({_SEEN_SINCE}) seen_since
    ON seen_since.as_of = p.as_of AND seen_since.user_id = p.user_id AND seen_since.item_id = p.item_id
  LEFT JOIN ({_RETURNED}) returned
    ON returned.as_of = p.as_of AND returned.user_id = p.user_id AND returned.item_id = p.item_id
{_limited("category")}
{_limited("brand")}
) found
"""

DUCKDB = _WHY_NOT.format(
    json="json_extract_string",
    names="array_to_string(list_sort(list(rule)), ', ')",
    is_seen="list_contains(seen.item_nums, p.item_num)",
    position="coalesce(list_position(l.item_ids, v.id), 0)",
    places="SELECT user_id, as_of, unnest(item_ids) AS item_id FROM top_n_lists",
)
SPARK = _WHY_NOT.format(
    json="get_json_object",
    names="array_join(array_sort(collect_list(rule)), ', ')",
    is_seen="array_contains(seen.item_nums, p.item_num)",
    position="array_position(l.item_ids, v.id)",
    places="SELECT user_id, as_of, explode(item_ids) AS item_id FROM top_n_lists",
)
