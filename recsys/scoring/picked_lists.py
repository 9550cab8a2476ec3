"""The lists of a few users, picked for the audit, on their way from the worker that has them to the driver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recsys.scoring.same_lists import Place, places

COLUMNS = ["user_id", "item_ids", "scores", "sources"]
PickedLists = Mapping[str, Sequence[Place]]
"""By user."""


class Picked:
    """On a worker: of the rows of top_n_lists that pass by, those of the users who were picked."""

    def __init__(self, user_ids: Sequence[str] = ()) -> None:
        self._lists: dict[str, list[Place]] = {}
        self.pick(user_ids)

    def pick(self, user_ids: Sequence[str]) -> None:
        self._user_ids = pa.array(user_ids, pa.string())

    def __bool__(self) -> bool:
        return bool(self._lists)

    def look_at(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Lists of texts may have dictionaries."""
        if not len(self._user_ids):
            return
        found = rows.select(COLUMNS).filter(pc.is_in(rows.column("user_id"), self._user_ids))
        self._lists |= {row["user_id"]: places(row) for row in found.to_pylist()}

    def as_json(self) -> str:
        """A float32 is the same number in Python and in JSON, and comes back as it was."""
        return json.dumps(self._lists)


def lists_of(told: Iterable[str]) -> dict[str, list[Place]]:
    """What ``Picked.as_json`` of all tasks say."""
    return {
        user: [(item, score, source) for item, score, source in found]
        for one in told
        for user, found in json.loads(one).items()
    }
