"""One rank's share of the training examples, read through petastorm into tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from recsys.data.columns import NAMES, Arrays, Expected, check_schema
from recsys.data.files import ExampleFile, check_files
from recsys.errors import ContractError, RecsysError

# Shape suffixes in this file:
#   E examples of this rank   W places of an example, newest last   R rows that are chosen


class Examples(NamedTuple):
    """Examples in the order of their ids; padding is on the left. One costs 9 W + 16 bytes (466 at W = 50)."""

    example_id_E: Tensor
    """int64."""
    user_num_E: Tensor
    """int64, from 1."""
    item_nums_EW: Tensor
    """int32, 0 is padding."""
    ages_days_EW: Tensor
    """float32, age of each event at as_of."""
    targets_EW: Tensor
    """bool, which events are to be predicted."""

    def __len__(self) -> int:  # the examples, not the fields
        return self.example_id_E.shape[0]

    def rows(self, chosen_R: Tensor) -> Self:
        """The examples at the places ``chosen_R`` (int64), in that order."""
        # Not [chosen_R]: index_select copies a row at a time and is several times faster.
        return type(self)(*(column.index_select(0, chosen_R) for column in self))

    def kept(self, is_kept_E: Tensor) -> Self:
        """The examples marked in ``is_kept_E`` (bool), copied; where all are, these themselves."""
        return self if is_kept_E.all() else self.rows(is_kept_E.nonzero().flatten())


def joined(parts: Sequence[Examples]) -> Examples:
    """One after the other."""
    return parts[0] if len(parts) == 1 else Examples(*map(torch.cat, zip(*parts, strict=True)))


def read_examples(
    files: Sequence[ExampleFile],
    *,
    width: int,
    num_items: int,
    num_users: int | None = None,
    rank: int = 0,
    size: int = 1,
    workers: int = 2,
    each_read: Callable[[], None] = lambda: None,
) -> Examples:
    """The row groups ``rank``, ``rank + size``, … of all files together; rows where there are too few groups.

    The share is allocated once and filled in one pass; what is in flight beside it is a few reads of some
    thousand rows. The same files give the same tensors, whatever the number of workers. A rank may get no rows at
    all: the caller says so on every rank.

    Args:
        width: places of an example, training_set.max_length + 1.
        num_items: the largest item number of the vocabulary that the model is of.
        num_users: the largest user number; None where the model does not look at users.
        workers: threads that read and decode.
        each_read: called after each of the reads, for those who watch that it goes on.

    Raises:
        ContractError: a file is missing, truncated, unreadable or of another schema (named), a blob has another
            width, or an item or user number is not in the vocabulary.
    """
    check_files(files)
    expected = Expected(width, num_items, num_users)
    with _petastorms_own_warnings():
        # Heavy to import, and it starts by warning about pyarrow.
        from recsys.data.share_reader import ShareReader  # noqa: PLC0415

        filesystem, paths = _paths(files)
        rows_of = {path: _rows_of_groups(filesystem, path) for path in paths}
        # With fewer row groups than ranks petastorm gives nobody any: a set so small is read whole.
        split_rows = sum(map(len, rows_of.values())) < size
        share = (0, 1) if split_rows else (rank, size)
        reader = ShareReader(
            filesystem, rows_of, expected, rank=share[0], size=share[1], workers=workers
        )
        columns = _by_id(reader.read_all(each_read))
    if split_rows:
        columns = {name: column[rank::size] for name, column in columns.items()}
    return Examples(*(torch.from_numpy(columns[name]) for name in NAMES))


def _paths(files: Sequence[ExampleFile]) -> tuple[Any, list[str]]:
    """petastorm's file system and the paths on it, in the order of ``files``."""
    from petastorm.fs_utils import get_filesystem_and_path_or_paths  # noqa: PLC0415

    filesystem, paths = get_filesystem_and_path_or_paths([file.url for file in files])
    # A local path may have characters that a URL has not.
    return filesystem, [str(file.path or path) for file, path in zip(files, paths, strict=True)]


def _rows_of_groups(filesystem: Any, path: str) -> tuple[int, ...]:
    from recsys.data.share_reader import open_parquet  # noqa: PLC0415

    try:
        with open_parquet(filesystem, path) as file:
            check_schema(file.schema_arrow, path)
            groups = range(file.metadata.num_row_groups)
            return tuple(file.metadata.row_group(group).num_rows for group in groups)
    except RecsysError:
        raise
    except Exception as error:  # Arrow's own, and whatever an object store's client raises
        raise ContractError(
            f"cannot read training examples: {path}: {type(error).__name__}: {str(error)[:300]}; "
            "run build_training_set again"
        ) from error


def _by_id(columns: Arrays) -> Arrays:
    """In the order of the ids, which is that of the files as build_training_set writes them: then as they are."""
    ids_E = columns["example_id"]
    if (ids_E[1:] > ids_E[:-1]).all():
        return columns
    order_E = np.argsort(ids_E, kind="stable")
    return {name: column[order_E] for name, column in columns.items()}


@contextmanager
def _petastorms_own_warnings() -> Iterator[None]:
    """petastorm 0.13 uses what pyarrow deprecated and leaves its files to the garbage collector."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield
