"""Saving: every rank writes the rows it holds, in the background; rank 0 commits once all are on disk.

A save is three things. ``begin`` freezes this rank's rows and returns; a thread reads, writes, hashes and fsyncs
them while training goes on; ``commit`` is where the ranks meet, and where the manifest is renamed into place. A
process that dies before that leaves a folder that no one believes. What is old is taken away by a thread, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import structlog
from pydantic import BaseModel
from torch import Tensor

from recsys.embeddings import Comm, FrozenRows
from recsys.errors import ContractError, RecsysError
from recsys.failpoints import failpoint
from recsys.records import write_atomically
from recsys.training.checkpoint import blocks
from recsys.training.checkpoint.arrays import packed
from recsys.training.checkpoint.blocks import Content
from recsys.training.checkpoint.manifest import (
    DENSE,
    MANIFEST,
    Facts,
    FileFacts,
    Manifest,
    Place,
    TableFacts,
    file_of,
    newest_first,
)

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How often the ranks tell each other, at a commit, who is not done: none waits longer than that for a message."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")

Tables = Mapping[str, Mapping[str, Tensor | FrozenRows]]


class _Part(BaseModel):
    """What one rank tells the others when it is done."""

    files: dict[str, FileFacts] = {}
    rows: dict[str, int] = {}
    """This rank's, by table."""
    problem: str = ""


class _Attempt:
    """This rank's part of one save."""

    def __init__(self, path: Path, facts: Facts, embedding_step: int) -> None:
        self.path, self.facts, self.embedding_step = path, facts, embedding_step
        self.tables: dict[str, TableFacts] = {}
        self.part = _Part()
        self.thread: threading.Thread | None = None
        self.blocks_written = 0

    @property
    def done(self) -> bool:
        return self.thread is None or not self.thread.is_alive()

    def wait(self) -> None:
        """For a while, or until it is done."""
        if self.thread is not None:
            self.thread.join(LOOK_SECONDS)

    def write(self, contents: list[Content]) -> None:
        """Write every file; what goes wrong is kept for ``commit``."""
        name = ""
        try:
            while contents:
                content = contents.pop(0)
                name = content.name
                self.part.files[name] = blocks.write(self.path, content, self._count_block)
                failpoint(f"checkpoint:written {name}")
                del content
            _fsync_folder(self.path)
        except Exception as error:
            contents.clear()
            self.part.problem = f"{name or self.path}: {_reason(error)}"

    def _count_block(self) -> None:
        self.blocks_written += 1


class Saver:
    """Writes the checkpoints of one fit. One save at a time; every rank makes the same calls."""

    def __init__(
        self, folder: Path, comm: Comm, *, background: bool = True,
        going_on: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Without ``background``, ``begin`` writes before it returns.

        ``going_on`` is called while ``commit`` waits for a disk, once in a while if some rank has written a block.
        """
        self.folder, self.comm, self.background = folder, comm, background
        self._going_on = going_on
        self._attempt: _Attempt | None = None
        self._tidying: threading.Thread | None = None

    @property
    def in_flight(self) -> bool:
        """Something was begun and is not committed."""
        return self._attempt is not None

    @property
    def ready(self) -> bool:
        """This rank's part is on disk, or has failed: ``commit`` has no disk to wait for here."""
        return self._attempt is None or self._attempt.done

    def begin(
        self, facts: Facts, dense: Mapping[str, npt.NDArray[Any]], tables: Tables,
        spread: Mapping[str, int], embedding_step: int,
    ) -> None:  # fmt: skip
        """Start to write. Collective.

        ``tables`` has this rank's rows: frozen ones (``ShardedEmbeddings.freeze``), which must stay so until
        ``commit``, or tensors, which are copied. A table of spread 1 and the
        dense arrays are written by rank 0; they are the same on all ranks. What goes wrong on one rank is
        raised by ``commit``, on all.

        Raises:
            RecsysError: on every rank, where rank 0 cannot make the folder.
        """
        assert self._attempt is None, "commit comes before the next begin"
        path = self._new_folder(facts)
        attempt = self._attempt = _Attempt(path, facts, embedding_step)
        try:
            contents = self._contents(attempt, dense, tables, spread)
        except Exception as error:  # out of memory, most likely
            attempt.part.problem = f"{path}: {_reason(error)}"
            return
        if self.background:
            name = f"checkpoint-{self.comm.rank}"
            attempt.thread = threading.Thread(
                target=attempt.write, args=(contents,), name=name, daemon=True
            )
            attempt.thread.start()
        else:
            attempt.write(contents)

    def commit(self) -> Path:
        """Make what was begun exist, on every rank at once. Collective.

        Raises:
            RecsysError: on every rank, where one could not write; rank, file and reason are named. The folder is
                gone again, the checkpoints before it stay.
        """
        assert self._attempt is not None, "begin comes first"
        attempt, self._attempt = self._attempt, None
        self._wait_for_all(attempt)
        texts = self.comm.gather_texts(attempt.part.model_dump_json(), "checkpoint parts")
        parts = [_Part.model_validate_json(text) for text in texts]
        problem = _problem_of(parts)
        if not problem and self.comm.rank == 0:
            try:
                self._write_manifest(attempt, parts)
            except Exception as error:
                problem = f"rank 0: {MANIFEST}: {_reason(error)}"
        problem = self.comm.gather_texts(problem, "checkpoint committed")[0]
        if problem:
            if self.comm.rank == 0:
                # Half a checkpoint on a full disk leaves no room for the next one.
                shutil.rmtree(attempt.path, ignore_errors=True)
            raise RecsysError(
                f"checkpoint {attempt.path} was not written: {problem}. The one before it is kept: "
                "free some room, or look after the disk, and run again"
            )
        return attempt.path

    def tidy(self, work: Callable[[], None]) -> None:
        """Do ``work``, which removes what is old, while training goes on. It ends before the next ``begin``.

        Where it fails the disk is fuller than it should be, and the log says so: no reason to stop.
        """
        self.wait_until_tidy()

        def tried() -> None:
            try:
                work()
            except (OSError, RecsysError) as error:
                log.warning(
                    "checkpoints_not_pruned", folder=str(self.folder), problem=_reason(error)
                )

        self._tidying = threading.Thread(target=tried, name="checkpoints-tidied", daemon=True)
        self._tidying.start()

    def wait_until_tidy(self) -> None:
        if self._tidying is not None:
            self._tidying.join()
            self._tidying = None

    def _wait_for_all(self, attempt: _Attempt) -> None:
        """Until every rank has written its part. No rank sits in a message meanwhile, which has a time limit."""
        before = 0.0
        while True:
            attempt.wait()
            mine = [float(attempt.done), float(attempt.blocks_written)]
            done, written = self.comm.sum(mine, "checkpoint written")
            if done == self.comm.size:
                return
            if written != before:  # a disk that hangs is not going on
                before = written
                self._going_on()

    def _new_folder(self, facts: Facts) -> Path:
        """Rank 0 makes it, for all."""
        answer = {"name": "", "problem": ""}
        if self.comm.rank == 0:
            try:
                answer["name"] = self._make_folder(facts)
            except OSError as error:
                answer["problem"] = _reason(error)
        answer = json.loads(self.comm.gather_texts(json.dumps(answer), "checkpoint folder")[0])
        if answer["problem"]:
            raise RecsysError(
                f"no folder for a checkpoint below {self.folder}: rank 0: {answer['problem']}"
            )
        return self.folder / str(answer["name"])

    def _make_folder(self, facts: Facts) -> str:
        self.wait_until_tidy()
        before = [
            place.attempt
            for place, _ in newest_first(self.folder)
            if (place.epoch, place.epoch_step) == (facts.epoch, facts.epoch_step)
        ]
        place = Place(facts.epoch, facts.epoch_step, 1 + max(before, default=-1))
        (self.folder / place.folder_name).mkdir(parents=True)
        failpoint("checkpoint:folder_made")
        return place.folder_name

    def _contents(
        self, attempt: _Attempt, dense: Mapping[str, npt.NDArray[Any]], tables: Tables,
        spread: Mapping[str, int],
    ) -> list[Content]:  # fmt: skip
        """This rank's files."""
        if attempt.facts.world_size != self.comm.size:
            raise ContractError(
                f"a checkpoint of world size {attempt.facts.world_size} on {self.comm.size} ranks"
            )
        contents = [Content(DENSE, [packed(dense)])] if self.comm.rank == 0 else []
        for table, arrays in tables.items():
            size = spread[table]
            rank = self.comm.rank if size > 1 else 0
            if size not in {1, self.comm.size} or "weight" not in arrays:
                raise ContractError(
                    f"table {table!r} is spread over {size} of {self.comm.size} ranks and has the arrays "
                    f"{', '.join(arrays)}: wanted are 1 or all ranks, and weight"
                )
            rows, dim = arrays["weight"].shape
            attempt.part.rows[table] = rows
            attempt.tables[table] = TableFacts(
                rows=rows, dim=dim, spread=size, arrays=tuple(arrays)
            )
            for array, values in arrays.items():
                if (
                    not (_NAME.fullmatch(table) and _NAME.fullmatch(array))
                    or values.shape[0] != rows
                ):
                    raise ContractError(
                        f"array {array!r} of table {table!r} has {values.shape[0]} rows, weight has {rows}; "
                        "names are letters, digits, - and _"
                    )
                if size > 1 or self.comm.rank == 0:  # what every rank has, rank 0 writes
                    contents.append(blocks.npy(file_of(table, array, rank, size), values))
        return contents

    def _write_manifest(self, attempt: _Attempt, parts: Sequence[_Part]) -> None:
        manifest = Manifest(
            facts=attempt.facts,
            embedding_step=attempt.embedding_step,
            tables={
                name: table.model_copy(update={"rows": _all_rows(name, table.spread, parts)})
                for name, table in attempt.tables.items()
            },
            files=dict(sorted(item for part in parts for item in part.files.items())),
        )
        # The names of all files, and the folder's own, are on disk before the manifest makes them count.
        _fsync_folder(attempt.path)
        _fsync_folder(self.folder)
        failpoint("checkpoint:before_manifest")
        write_atomically(attempt.path / MANIFEST, manifest.sealed())
        failpoint("checkpoint:after_manifest")


def _all_rows(table: str, spread: int, parts: Sequence[_Part]) -> int:
    """Rows of the whole table; every rank must hold its share of them."""
    if spread == 1:
        return parts[0].rows[table]
    have = [part.rows[table] for part in parts]
    rows = sum(have)
    wanted = [len(range(rank, rows, spread)) for rank in range(spread)]
    if have != wanted:
        raise ContractError(f"the ranks hold {have} rows of table {table!r}; wanted are {wanted}")
    return rows


def _problem_of(parts: Sequence[_Part]) -> str:
    told = [f"rank {rank}: {part.problem}" for rank, part in enumerate(parts) if part.problem]
    return "; ".join(told)


def _reason(error: Exception) -> str:
    """Bounded, and without the file's name, which is named before it."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {said}"[:500]


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
