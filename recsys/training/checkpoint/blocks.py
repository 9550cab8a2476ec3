"""Arrays block by block: written and hashed while training goes on, read back on any number of ranks."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.embeddings import FrozenRows
from recsys.errors import CorruptArtifact
from recsys.failpoints import failpoint
from recsys.training.checkpoint.manifest import FileFacts

BLOCK_BYTES = 8 << 20
"""What a save holds beyond the rows that change meanwhile. A step of training waits while one is read: 2 ms."""

_format: Any = np.lib.format  # has no types

Rows = npt.NDArray[Any]


@dataclass
class Content:
    """One file to be written."""

    name: str
    blocks: Iterable[bytes | Rows]
    """In order; contiguous. Each is let go once it is written."""


def npy(name: str, values: Tensor | FrozenRows) -> Content:
    """An array as an npy file, header first; frozen rows are read when they are written, a tensor is copied now."""
    dtype = torch.empty(0, dtype=values.dtype).numpy().dtype
    blocks: Iterable[Rows]
    if isinstance(values, Tensor):
        copy = values.detach().cpu().clone()
        blocks = [copy.numpy()] if len(copy) else []
    else:
        blocks = _read(values, dtype)
    return Content(name, chain([_header(tuple(values.shape), dtype)], blocks))


def write(
    folder: Path, content: Content, each_block: Callable[[], None] = lambda: None
) -> FileFacts:
    """Write, hash and fsync a new file; ``each_block`` is called after each block."""
    digest, size = hashlib.sha256(), 0
    with open(folder / content.name, "xb") as file:
        for block in content.blocks:
            data = block if isinstance(block, bytes) else block.data.cast("B")
            file.write(data)
            # Asks the disk to start on this block while the next one is hashed.
            os.posix_fadvise(file.fileno(), size, len(data), os.POSIX_FADV_DONTNEED)
            digest.update(data)
            size += len(data)
            failpoint("checkpoint:block_written")
            each_block()
        file.flush()
        os.fsync(file.fileno())
        # Only what is on the disk is let go: the system's cache, in which the training data lie, is not filled with
        # what is read again only after a failure.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return FileFacts(size_bytes=size, sha256=digest.hexdigest())


def sha256_of(path: Path, each_block: Callable[[], None] = lambda: None) -> str:
    """64 hex digits; ``each_block`` is called after each block."""
    digest, room = hashlib.sha256(), bytearray(BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(room):
            digest.update(memoryview(room)[:size])
            each_block()
    return digest.hexdigest()


def take_rows(
    path: Path, wanted: slice, into: Rows, each_block: Callable[[], None] = lambda: None
) -> None:
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
            each_block()
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


def _read(rows: FrozenRows, dtype: np.dtype[Any]) -> Iterator[Rows]:
    """Block by block into the same memory: to be given fresh pages can cost more than to fill them."""
    row_bytes = dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
    at_once = max(1, min(BLOCK_BYTES // max(1, row_bytes), rows.shape[0]))
    room = torch.empty((at_once, *rows.shape[1:]), dtype=rows.dtype)
    for start in range(0, rows.shape[0], at_once):
        stop = min(start + at_once, rows.shape[0])
        rows.read(start, stop, room[: stop - start])
        yield room[: stop - start].numpy()


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
