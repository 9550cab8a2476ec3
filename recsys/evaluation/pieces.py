"""What workers add of everybody who is measured, as rows that Spark brings together.

The sums of a recommender go in pieces of some rounds each, so that what meets in one place is a quarter of a megabyte
of each worker; how often items are shown, and whose lists are looked at, are a piece each. The former is the largest
piece: up to 16 bytes for every item that a worker's lists show to a group of its users, by cut-off; 2 MB of a worker
whose 10,000 users are shown 20 items each. Here is the way there and back, without Spark.

Shape suffixes: R rounds of the bootstrap and before them everybody once, X columns that are added up, N catalogue
(num_items + 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from recsys.evaluation.examples import Seen, best_and_worst
from recsys.evaluation.intervals import Estimate
from recsys.evaluation.list_figures import OF_ALL_LISTS
from recsys.evaluation.measured import Measured
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.tally import Plan, Tally
from recsys.evaluation.times_shown import shop_figures

ROUNDS_AT_ONCE = 128
SHOWN, SEEN = -1, -2
"""Pieces beside those of the sums, which are called by their first round."""
PIECES = (
    "recommender string, piece int, sums array<double>, keys array<bigint>, counts array<bigint>, "
    "seen string"
)
WHOLE = "recommender string, piece int, values array<double>, seen string"
SEEN_AS_JSON = TypeAdapter(tuple[Seen, ...], config=ConfigDict(ser_json_inf_nan="constants"))


def pieces(tally: Tally) -> Iterator[pa.RecordBatch]:
    """What a worker adds: rows of ``PIECES``, each of which is added up for itself."""
    for name, sums_RX in tally.sums.items():
        for start in range(0, len(sums_RX), ROUNDS_AT_ONCE):
            yield _piece(name, start, sums=sums_RX[start : start + ROUNDS_AT_ONCE].ravel())
        keys, counts = tally.shown[name].pairs()
        yield _piece(name, SHOWN, keys=keys, counts=counts)
    if tally.seen:
        yield _piece(BLEND, SEEN, seen=SEEN_AS_JSON.dump_json(tally.seen).decode())


def added_up(table: pa.Table, allowed_N: NDArray[np.bool_], ks: tuple[int, ...]) -> pa.Table:
    """A piece of all workers as a row of ``WHOLE``, in whatever order they come: sums are exact."""
    name, piece = table["recommender"][0], table["piece"][0]
    values, seen = np.zeros(0), None
    if piece.as_py() == SEEN:
        seen = SEEN_AS_JSON.dump_json(best_and_worst(_seen(table))).decode()
    elif piece.as_py() == SHOWN:
        by_k = shop_figures(_flat(table, "keys"), _flat(table, "counts"), allowed_N, ks)
        values = np.array([astuple(found[metric]) for found in by_k for metric in OF_ALL_LISTS])
    else:
        values = _flat(table, "sums").reshape(len(table), -1).sum(axis=0)
    columns = [
        pa.array([name]),
        pa.array([piece]),
        pa.array([values.ravel()]),
        pa.array([seen], pa.string()),
    ]
    return pa.table(columns, names=["recommender", "piece", "values", "seen"])


def _piece(
    name: str, piece: int, *, seen: str | None = None, **values: NDArray[Any]
) -> pa.RecordBatch:
    columns = {
        "recommender": pa.array([name]), "piece": pa.array([piece], pa.int32()),
        "sums": pa.array([values.get("sums", [])], pa.list_(pa.float64())),
        "keys": pa.array([values.get("keys", [])], pa.list_(pa.int64())),
        "counts": pa.array([values.get("counts", [])], pa.list_(pa.int64())),
        "seen": pa.array([seen], pa.string()),
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns)


def measured_of(
    whole: pa.Table, names: Sequence[str], allowed_N: NDArray[np.bool_], *, plan: Plan, window: str, cut_off: date
) -> Measured:  # fmt: skip
    """From rows of ``WHOLE``; there are none where nobody was measured."""
    rows = zip(*(whole.column(name) for name in ("recommender", "piece", "values")), strict=True)
    found = {
        (name.as_py(), piece.as_py()): values.values.to_numpy() for name, piece, values in rows
    }
    no_keys = np.zeros(0, dtype=np.int64)
    nothing = shop_figures(no_keys, no_keys, allowed_N, plan.ks)
    sums, whole_shop = {}, {}
    for name in names:
        sums[name], whole_shop[name] = plan.nothing(name), nothing
        if found:  # every piece of everybody, or the night fails
            for start in range(0, len(sums[name]), ROUNDS_AT_ONCE):
                some = sums[name][start : start + ROUNDS_AT_ONCE]
                some[:] = found[name, start].reshape(some.shape)
            whole_shop[name] = _estimates(found[name, SHOWN])
    return Measured.of_sums(
        sums, plan=plan, window=window, cut_off=cut_off, whole_shop=whole_shop, seen=best_and_worst(_seen(whole)),
    )  # fmt: skip


def _estimates(values: NDArray[np.float64]) -> list[dict[str, Estimate]]:
    """By cut-off, from a row of ``added_up``."""
    by_k = values.reshape(-1, len(OF_ALL_LISTS), len(fields(Estimate))).tolist()
    return [
        {
            metric: Estimate(value, low, high, int(num_users))
            for metric, (value, low, high, num_users) in zip(OF_ALL_LISTS, of_k, strict=True)
        }
        for of_k in by_k
    ]


def _seen(table: pa.Table) -> list[Seen]:
    told = table.column("seen").drop_null().to_pylist()
    return [one for some in told for one in SEEN_AS_JSON.validate_json(some)]


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    """The values of a list column, one after the other."""
    values: NDArray[Any] = table.column(name).combine_chunks().flatten().to_numpy()
    return values
