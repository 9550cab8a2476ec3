"""What the workers of `top_n_vs_als` do: a module of its own, so that they import little and keep what they opened."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.lake import Destination, RowFileWriter
from recsys.scoring.lists import Lists
from recsys.scoring.select import Best
from recsys.scoring.spark import numbered_lists
from recsys.scoring.top_items import largest_norm, top_items

# Shape suffixes in this file:
#   B users   N items   D embedding width   M places of a list

N = 100
NAMES = ["user_id", "item_ids", "scores", "sources", "model_version"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """What a worker holds."""

    items_ND: Floats
    item_ids: pa.StringArray
    largest: float

    def best(self, user_BD: Floats) -> Best:
        return top_items(user_BD, self.items_ND, N, largest=self.largest)


def save_catalogue(items: pa.Table, folder: Path) -> str:
    """The item matrix and the ids where workers map them; ``items`` by number, with ``id`` and ``vector``."""
    place = Path(tempfile.mkdtemp(dir=folder))
    values = items.column("vector").combine_chunks().flatten().to_numpy()
    np.save(place / "vectors.npy", values.reshape(items.num_rows, -1))
    ids = items.select(["id"])
    with (
        pa.OSFile(str(place / "ids.arrow"), "wb") as file,
        pa.ipc.new_file(file, ids.schema) as out,
    ):
        out.write_table(ids)
    return str(place)


@lru_cache(maxsize=1)
def open_catalogue(place: str) -> Catalogue:
    items_ND = np.load(Path(place) / "vectors.npy", mmap_mode="r")
    with pa.memory_map(str(Path(place) / "ids.arrow")) as file:
        item_ids = pa.ipc.open_file(file).read_all().column("id").combine_chunks()
    return Catalogue(items_ND, item_ids, largest_norm(items_ND))


def scored(
    batches: Iterable[pa.RecordBatch], place: str, to: Destination, taken: Any, *, constant: bool
) -> Iterator[pa.RecordBatch]:
    """Lists, written as ``score_top_n`` writes them; ``taken`` is an accumulator of the kernel's processor seconds.

    ``constant``: a made-up answer, the same for every batch of a size.
    """
    catalogue = open_catalogue(place)
    items, dim = catalogue.items_ND.shape
    with RowFileWriter(to) as writer:
        for batch in batches:
            user_BD = batch.column("vector").flatten().to_numpy().reshape(-1, dim)
            started = time.thread_time()
            best = made_up(len(user_BD), items) if constant else catalogue.best(user_BD)
            taken.add(time.thread_time() - started)
            arrays = numbered_lists(flat(best), catalogue.item_ids)
            version = pa.repeat("given", len(user_BD))
            writer.write(
                pa.RecordBatch.from_arrays([batch.column("user_id"), *arrays, version], names=NAMES)
            )
        file = writer.close()
    if file:
        yield pa.RecordBatch.from_pylist([asdict(file)])


@lru_cache(maxsize=64)
def made_up(users: int, items: int) -> Best:
    """Lists of distinct items with falling scores, drawn once."""
    draw = np.random.default_rng(9)
    m = min(N, items)
    starts_B = draw.integers(items, size=(users, 1))
    nums_BM = (starts_B + 7919 * np.arange(m)) % items
    scores_BM = -np.sort(-draw.normal(size=(users, m)), axis=1)
    return Best(nums_BM.astype(np.int32), scores_BM.astype(np.float32),
                np.zeros((users, m), np.int8), np.full(users, m))  # fmt: skip


def flat(best: Best) -> Lists:
    """Every list is full: nothing is hidden."""
    users, m = best.nums_BM.shape
    return Lists(np.arange(users + 1, dtype=np.int64) * m, best.nums_BM.ravel(),
                 best.scores_BM.ravel(), best.sources_BM.ravel())  # fmt: skip
