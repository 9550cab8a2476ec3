"""One rank's share of the training examples, read through petastorm into three tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.data.files import ExampleFile, check_files, unreadable_file
from recsys.errors import ContractError, RecsysError

# Shape suffixes in this file:
#   E examples of this rank   W places of an example, newest last
COLUMNS = ("example_id", "item_nums", "ages_days", "targets")


class Examples(NamedTuple):
    """Examples in the order of their ids; padding is on the left."""

    example_id_E: Tensor
    """int64."""
    item_nums_EW: Tensor
    """int32, 0 is padding."""
    ages_days_EW: Tensor
    """float32, age of each event at as_of."""
    targets_EW: Tensor
    """bool, which events are to be predicted."""

    def __len__(self) -> int:  # the examples, not the fields
        return self.example_id_E.shape[0]


def read_examples(
    files: Sequence[ExampleFile], *, width: int, num_items: int, rank: int = 0, size: int = 1
) -> Examples:
    """The row groups ``rank``, ``rank + size``, … of all files together; rows where there are too few groups.

    Blobs are joined and looked at as arrays: no Python runs per row. One in-order worker reads, so the
    same files give the same tensors. A rank may get no rows at all: the caller says so on every rank.

    Args:
        width: places of an example, training_set.max_length + 1.
        num_items: the largest number of the vocabulary that the examples were made with.

    Raises:
        ContractError: a file is missing, truncated or unreadable (named), a blob has another width, or
            an item number is not in the vocabulary.
    """
    check_files(files)
    try:
        row_groups = [_decode(group, width) for group in _row_groups(files, rank, size)]
        if not row_groups and size > 1:
            # Fewer row groups than ranks, and petastorm gives nobody any: a set so small is read whole.
            whole = [_decode(group, width) for group in _row_groups(files, 0, 1)]
            row_groups = [tuple(np.concatenate(c)[rank::size] for c in zip(*whole, strict=True))]
    except RecsysError:
        raise
    except Exception as error:
        # petastorm passes on whatever its worker died of, and not which file it was reading.
        found = unreadable_file(files) or f"{type(error).__name__}: {str(error)[:300]}"
        raise ContractError(
            f"cannot read training examples: {found}; run build_training_set again"
        ) from error
    ids_E, items_EW, ages_EW, targets_EW = (
        np.concatenate(parts) for parts in zip(*row_groups, strict=True)
    )
    _check_numbers(ids_E, items_EW, num_items)
    order_E = np.argsort(ids_E, kind="stable")
    return Examples(
        torch.from_numpy(ids_E[order_E].astype(np.int64)),
        torch.from_numpy(items_EW[order_E]),
        torch.from_numpy(ages_EW[order_E]),
        torch.from_numpy(targets_EW[order_E] != 0),
    )


def _row_groups(files: Sequence[ExampleFile], rank: int, size: int) -> Iterator[Any]:
    with _petastorms_own_warnings():
        # Heavy to import, and it starts by warning about pyarrow.
        from petastorm import make_batch_reader  # noqa: PLC0415
        from petastorm.errors import NoDataAvailableError  # noqa: PLC0415

        try:
            reader = make_batch_reader(
                [file.url for file in files],
                schema_fields=[f"^{name}$" for name in COLUMNS],
                reader_pool_type="dummy",
                shuffle_row_groups=False,
                cur_shard=rank if size > 1 else None,
                shard_count=size if size > 1 else None,
            )
        except NoDataAvailableError:
            return
        with reader:
            yield from reader


def _decode(group: Any, width: int) -> tuple[npt.NDArray[Any], ...]:
    """The columns of one row group as arrays of (rows, width)."""
    missing = [name for name in COLUMNS if not hasattr(group, name)]
    if missing:
        raise ContractError(
            f"training_examples has no column {', '.join(missing)}: run build_training_set again"
        )
    return (
        np.asarray(group.example_id),
        _matrix(group, "item_nums", "<i4", width),
        _matrix(group, "ages_days", "<f4", width),
        _matrix(group, "targets", "u1", width),
    )


def _matrix(group: Any, column: str, dtype: str, width: int) -> npt.NDArray[Any]:
    blobs = getattr(group, column)
    wanted = width * np.dtype(dtype).itemsize
    # map over a C function: the interpreter runs no bytecode per row.
    lengths = np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs))
    if (wrong := np.flatnonzero(lengths != wanted)).size:
        raise ContractError(
            f"training_examples.{column} of example {group.example_id[wrong[0]]} has {lengths[wrong[0]]} bytes, "
            f"expected {wanted}: {width} places (training_set.max_length + 1) of {dtype}; the set was built "
            "with another max_length: run build_training_set again"
        )
    return np.frombuffer(bytearray(b"".join(blobs)), dtype=dtype).reshape(len(blobs), width)


def _check_numbers(ids_E: npt.NDArray[Any], items_EW: npt.NDArray[Any], num_items: int) -> None:
    outside_EW = (items_EW < 0) | (items_EW > num_items)
    if outside_EW.any():
        row, place = np.argwhere(outside_EW)[0]
        raise ContractError(
            f"item number {items_EW[row, place]} in training example {ids_E[row]} is not in the vocabulary, "
            f"whose numbers are 1 to {num_items}: examples and vocabulary are of different versions; "
            "run build_features and build_training_set again"
        )


@contextmanager
def _petastorms_own_warnings() -> Iterator[None]:
    """petastorm 0.13 uses what pyarrow deprecated and leaves its files to the garbage collector."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield
