"""Tables that are replaced by ``as_of``, several days at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame

from recsys.contracts import TableContract
from recsys.lake.tables import Lake, Written

Tables = Mapping[TableContract, DataFrame]
"""Rows by the table they are for."""


def replace_days(
    lake: Lake, days: Sequence[date], tables_of_day: Callable[[date], Tables]
) -> list[Written]:
    """Replace the rows of all ``days`` in each table by what ``tables_of_day`` makes of a day.

    One commit per table, not per day: on a laptop a commit costs seconds whatever it holds, and readers see
    all days of a night or none.
    """
    made = [tables_of_day(day) for day in days]
    return [
        lake.replace(
            reduce(DataFrame.unionByName, [tables[contract] for tables in made]),
            contract,
            {"as_of": tuple(days)},
        )
        for contract in made[0]
    ]
