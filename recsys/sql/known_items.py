"""Whether an item's id is one of the catalogue, and if not what may have been meant."""

from __future__ import annotations

import duckdb

from recsys.config.places import PathsConfig
from recsys.errors import RecsysError
from recsys.sql.duck import open_lake

SHOWN = 3


def nearest_items(paths: PathsConfig, item_id: str) -> list[str]:
    """The ids that are most like one that the table ``items`` does not hold.

    Empty where it does hold it, and where it cannot say: no such table, nothing in it, or it is out of reach.
    """
    asked = {"item": item_id}
    known = "select count(*) from items where item_id = $item"
    near = (
        "select item_id from (select distinct item_id from items) "
        f"order by levenshtein(item_id, $item), item_id limit {SHOWN}"
    )
    try:
        with open_lake(paths) as lake:
            [[found]] = lake.query(known, asked)[1]
            return [] if found else [row[0] for row in lake.query(near, asked)[1]]
    except (RecsysError, duckdb.Error, OSError):
        return []
