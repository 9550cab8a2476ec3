"""petastorm's Reader, with a worker that writes Arrow's buffers into arrays.

petastorm decides the row groups of a rank, hands them out to a pool of threads and holds no more than a few in
flight. Its own worker for plain Parquet makes a Python object of every blob; ours copies a chunk at a time. It also
takes several small row groups in one read, and keeps a file open from one read to the next.

Imports petastorm, which is heavy and begins by warning: import this module where examples are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase
from pyarrow import parquet as pq

from recsys.data.columns import NAMES, Arrays, Expected, allocate, decode
from recsys.errors import ContractError, RecsysError

ROWS_PER_READ = 8_192
"""Row groups are read together up to so many rows: large enough to hide what a read costs, small beside a share."""


class Read(NamedTuple):
    """One piece of work: row groups of a file, and the part of the share that they fill."""

    path: str
    row_groups: tuple[int, ...]
    into: Arrays
    expected: Expected


def open_parquet(filesystem: Any, path: str) -> pq.ParquetFile:
    """A local file is read by Arrow itself, without Python's lock; others through petastorm's file system."""
    return pq.ParquetFile(path if filesystem is pa.localfs else filesystem.open(path, "rb"))


def spans(paths: Sequence[str], rows: Sequence[int], most_rows: int) -> list[tuple[int, int]]:
    """Which neighbours (first, stop) to read together: of one file, up to ``most_rows`` rows, one at least."""
    found: list[tuple[int, int]] = []
    first = 0
    for stop in range(1, len(rows) + 1):
        ends = stop == len(rows) or paths[stop] != paths[first]
        if ends or sum(rows[first : stop + 1]) > most_rows:
            found.append((first, stop))
            first = stop
    return found


class ColumnWorker(WorkerBase):  # type: ignore[misc]
    """Reads row groups into place; runs on a thread of petastorm's pool."""

    def __init__(self, worker_id: int, publish_func: Any, args: Any) -> None:
        super().__init__(worker_id, publish_func, args)
        self._filesystem = args[0]
        self._open: tuple[str, pq.ParquetFile] | None = None

    @staticmethod
    def new_results_queue_reader() -> None:
        """Not asked: rows are in place when a read is published, see ``ShareReader``."""

    def process(self, read: Read) -> None:
        try:
            table = self._file(read.path).read_row_groups(
                read.row_groups, columns=list(NAMES), use_threads=False
            )
            decode(table, read.into, read.expected, read.path)
            self.publish_func(table.num_rows)
        except RecsysError as error:
            self.publish_func(error)  # raised again by the one who waits for results
        except Exception as error:
            self.publish_func(
                ContractError(
                    f"cannot read training examples: {read.path}: {type(error).__name__}: {str(error)[:300]}; "
                    "run build_training_set again"
                )
            )

    def _file(self, path: str) -> pq.ParquetFile:
        if self._open is None or self._open[0] != path:
            self._open = (path, open_parquet(self._filesystem, path))
        return self._open[1]


class ShareReader(Reader):  # type: ignore[misc]
    """The row groups ``rank``, ``rank + size``, … of all files, read into ``columns`` in that order."""

    def __init__(
        self,
        filesystem: Any,
        rows_of: Mapping[str, Sequence[int]],
        expected: Expected,
        *,
        rank: int,
        size: int,
        workers: int,
    ) -> None:
        """``rows_of`` has the rows of each row group of each file, by path."""
        self._rows_of, self._expected = rows_of, expected
        self.columns: Arrays = {}
        self._num_reads = 0
        super().__init__(
            filesystem,
            list(rows_of),
            schema_fields=[f"^{name}$" for name in NAMES],
            worker_class=ColumnWorker,
            reader_pool=ThreadPool(workers),
            shuffle_row_groups=False,
            is_batched_reader=True,
            cur_shard=rank if size > 1 else None,
            shard_count=size if size > 1 else None,
        )

    def read_all(self, each_read: Callable[[], None] = lambda: None) -> Arrays:
        """Wait until every row is in place; ``each_read`` is called after each read.

        Raises:
            ContractError: what the first worker that failed has found.
        """
        try:
            published = 0
            while published < self._num_reads:
                try:
                    self._workers_pool.get_results()
                    published += 1
                    each_read()
                except EmptyResultError:
                    # The pool looks first whether all that was handed out is done and then whether more will be:
                    # the last read may be handed out between the two looks. So we count.
                    continue
        finally:
            self.stop()
            self.join()
        return self.columns

    def _filter_row_groups(self, dataset: Any, row_groups: Any, *others: Any) -> Any:
        self._row_groups = row_groups
        return super()._filter_row_groups(dataset, row_groups, *others)

    def _create_ventilator(self, row_group_indexes: Sequence[int], *others: Any) -> Any:
        """Called before the workers start, with the row groups of this rank."""
        groups = [
            (piece.path, piece.row_group)
            for piece in map(self._row_groups.__getitem__, row_group_indexes)
        ]
        rows = [self._rows_of[path][row_group] for path, row_group in groups]
        self.columns = allocate(sum(rows), self._expected.width)
        starts = [0, *accumulate(rows)]
        reads = []
        for first, stop in spans([path for path, _ in groups], rows, ROWS_PER_READ):
            into = {
                name: column[starts[first] : starts[stop]] for name, column in self.columns.items()
            }
            row_groups = tuple(row_group for _, row_group in groups[first:stop])
            reads.append({"read": Read(groups[first][0], row_groups, into, self._expected)})
        self._num_reads = len(reads)
        *_, queue_size, seed = others
        return ConcurrentVentilator(
            self._workers_pool.ventilate,
            reads,
            max_ventilation_queue_size=queue_size,
            random_seed=seed,
        )
