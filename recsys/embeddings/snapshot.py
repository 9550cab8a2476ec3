"""The rows of a shard as they were at one moment, read by a thread while training goes on changing them.

A row is copied just before the first change since then, so a save costs the rows that training touches meanwhile,
not the shard once more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.errors import ContractError

# Shape suffixes in this file:
#   R rows of the shard   C rows that changed since   D embedding width


class Snapshot:
    """Of one shard. ``changing`` is for the thread that trains, ``read`` for the one that saves."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        """``arrays``: the weight and the slots, (R, …) each; they are not copied."""
        self._arrays = dict(arrays)
        some = next(iter(self._arrays.values()))
        self._is_kept_R = torch.zeros(len(some), dtype=torch.bool, device=some.device)
        self._kept: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def changing(self, rows: Sequence[Tensor]) -> Iterator[None]:
        """Keep ``rows`` (int64, several times where several ranks have it) as they are; the body changes them."""
        with self._lock:  # a block is never read while it changes
            self._keep(torch.cat(list(rows)))
            yield

    def read(self, array: str, start: int, stop: int, out: Tensor) -> None:
        """Rows ``start`` to ``stop`` of an array as they were, into ``out`` on the CPU.

        Raises:
            ContractError: the snapshot is closed.
        """
        with self._lock:
            if self._closed:
                raise ContractError(
                    f"rows {start} to {stop} of {array!r} were read after thaw: they have changed since"
                )
            out.copy_(self._arrays[array][start:stop])
            kept = list(self._kept)
        for rows_C, before in kept:
            here_C = (rows_C >= start) & (rows_C < stop)
            out[(rows_C[here_C] - start).cpu()] = before[array][here_C].cpu()

    def close(self) -> None:
        """Let go of what was kept; nothing can be read any more, and rows that change are not kept."""
        with self._lock:
            self._closed = True
            self._kept.clear()

    def _keep(self, rows: Tensor) -> None:
        new_C = torch.unique(rows[~self._is_kept_R[rows]])
        self._is_kept_R[new_C] = True
        self._kept.append((new_C, {name: array[new_C] for name, array in self._arrays.items()}))


@dataclass(frozen=True)
class FrozenRows:
    """This rank's rows of one array of a table, as a snapshot has them."""

    snapshot: Snapshot
    array: str
    start: int
    """Of the table within the shard."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self, start: int, stop: int, out: Tensor) -> None:
        self.snapshot.read(self.array, self.start + start, self.start + stop, out)
