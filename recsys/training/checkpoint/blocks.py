"""Arrays block by block: copied for a save in the background, written and hashed, read back."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.errors import CorruptArtifact
from recsys.failpoints import failpoint
from recsys.training.checkpoint.manifest import FileFacts

BLOCK_BYTES = 32 << 20
"""What a save holds beyond the rows themselves, and what is given back at once while it writes."""

_format: Any = np.lib.format  # has no types

Rows = npt.NDArray[Any]


@dataclass
class Content:
    """One file to be written."""

    name: str
    blocks: Iterable[bytes | Rows]
    """In order; contiguous. Each is let go once it is written."""


class Memory:
    """Where copies go. What is made ready ahead, by a thread, training does not wait for.

    To be given fresh pages can cost more than to fill them: 2.5 s for a GB was seen on a virtual machine whose
    host takes back what its guest has freed, where the copy itself takes 0.1 s.
    """

    def __init__(self) -> None:
        self._ready: deque[Rows] = deque()
        self._enough = threading.Event()
        self._thread: threading.Thread | None = None

    def prepare(self, arrays: Sequence[Tensor]) -> None:
        """Begin to make room for copies of ``arrays``, in this order."""
        sizes = [block.nbytes for values in arrays for block in _split(values)]
        self._thread = threading.Thread(
            target=self._make, args=(sizes,), name="checkpoint-memory", daemon=True
        )
        self._enough.clear()
        self._thread.start()

    @property
    def prepared(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def take(self, size: int) -> Rows:
        """Room of so many bytes: what is ready, or new pages."""
        if self._ready and len(self._ready[0]) == size:
            return self._ready.popleft()
        return _new_pages(size)

    def release(self) -> None:
        """Give back what was not taken."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._ready.clear()

    def _make(self, sizes: Sequence[int]) -> None:
        for size in sizes:
            if self._enough.is_set():
                return
            pages = _new_pages(size)
            torch.from_numpy(pages)[:: mmap.PAGESIZE].zero_()  # lets other threads run meanwhile
            self._ready.append(pages)


def npy(name: str, values: Tensor, memory: Memory | None) -> Content:
    """An array as an npy file, header first.

    With ``memory`` all values are copied there now, block by block, so that a block's room is free as soon as it
    is on disk. Without, they are read when they are written.
    """
    dtype = torch.empty(0, dtype=values.dtype).numpy().dtype
    blocks: Iterator[Rows] = (_on_cpu(block, dtype, memory) for block in _split(values.detach()))
    if memory is not None:
        blocks = _given_up(list(blocks))
    return Content(name, chain([_header(tuple(values.shape), dtype)], blocks))


def write(folder: Path, content: Content) -> FileFacts:
    """Write, hash and fsync a new file."""
    digest, size = hashlib.sha256(), 0
    with open(folder / content.name, "xb") as file:
        for block in content.blocks:
            data = block if isinstance(block, bytes) else block.data.cast("B")
            file.write(data)
            # The disk starts on this block while the next one is hashed, and the system's cache, in which the
            # training data lie, is not filled with what is read again only after a failure.
            os.posix_fadvise(file.fileno(), size, len(data), os.POSIX_FADV_DONTNEED)
            digest.update(data)
            size += len(data)
            failpoint("checkpoint:block_written")
        file.flush()
        os.fsync(file.fileno())
    return FileFacts(size_bytes=size, sha256=digest.hexdigest())


def take_rows(path: Path, wanted: slice, into: Rows) -> None:
    """Fill ``into``, which may be strided, with rows of an npy file; no more than a block is held besides.

    Raises:
        CorruptArtifact: the file is no array of rows like these, or too short.
    """
    with open(path, "rb") as file:
        shape, dtype = _read_header(file, path)
        if (shape[1:], dtype) != (into.shape[1:], into.dtype) or shape[0] < wanted.stop:
            raise CorruptArtifact(
                f"checkpoint file {path} holds {shape} {dtype}; wanted are rows {wanted.start} to "
                f"{wanted.stop} of {into.shape[1:]} {into.dtype}"
            )
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        file.seek(wanted.start * row_bytes, os.SEEK_CUR)
        step = wanted.step
        at_once = max(1, BLOCK_BYTES // max(1, row_bytes * step))
        for done in range(0, len(into), at_once):
            part = into[done : done + at_once]
            if step == 1 and part.flags.c_contiguous:
                _fill(file, part, path)
            else:
                first = wanted.start + done * step
                block = np.empty(
                    (min(len(part) * step, wanted.stop - first), *shape[1:]), dtype=dtype
                )
                _fill(file, block, path)
                part[:] = block[::step]


def shape_and_type(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Of an npy file."""
    with open(path, "rb") as file:
        return _read_header(file, path)


def _split(values: Tensor) -> Iterator[Tensor]:
    row_bytes = values.element_size() * max(1, values[:1].numel())
    return iter(torch.split(values, max(1, BLOCK_BYTES // row_bytes)) if len(values) else ())


def _on_cpu(block: Tensor, dtype: np.dtype[Any], memory: Memory | None) -> Rows:
    if memory is not None:
        target = memory.take(block.nbytes).view(dtype).reshape(tuple(block.shape))
        torch.from_numpy(target).copy_(block)
        return target
    found: Rows = block.cpu().contiguous().numpy()
    return found


def _new_pages(size: int) -> Rows:
    """Memory of its own, given back to the system when the array goes.

    Huge pages where the system has them: to be given 4 KB at a time takes twice as long (2.6 against 5.8 GB/s).
    """
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def _given_up(blocks: list[Rows]) -> Iterator[Rows]:
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    descr = _format.dtype_to_descr(dtype)
    parts = {"descr": descr, "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    _format.write_array_header_1_0(file, parts)
    return file.getvalue()


def _read_header(file: io.BufferedReader, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        if _format.read_magic(file) != (1, 0):
            raise ValueError("not version 1.0")
        shape, fortran, dtype = _format.read_array_header_1_0(file)
    except ValueError as error:
        raise CorruptArtifact(f"checkpoint file {path} is no npy file: {error}") from None
    if fortran or dtype.hasobject or not shape:
        raise CorruptArtifact(f"checkpoint file {path} is no array of rows: {shape} {dtype}")
    return shape, dtype


def _fill(file: io.BufferedReader, into: Rows, path: Path) -> None:
    if into.nbytes and file.readinto(into.data.cast("B")) != into.nbytes:
        raise CorruptArtifact(f"checkpoint file {path} is shorter than its header says")
