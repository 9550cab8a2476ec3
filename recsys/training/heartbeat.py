"""Who stopped answering: every rank says that it lives, and ends the job when another does not.

Horovod waits for a rank that hangs, and does not say where it hung. Here each rank writes, once a second, how
many things it has done and what it is doing to a file of its own in the folder that all share. A rank that
has waited too long reads the files of the others, leaves an error that names who is behind, and ends itself;
the launcher then ends the others, and the job starts again from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_STOPPED_ANSWERING = 70
INTERVAL_SECONDS = 1.0


Said = dict[str, Any]
"""How often a rank's thread has spoken (lives), how many things it has done (count), and where it is."""

NOTHING_YET: Said = {"lives": 0, "count": 0, "step": 0, "doing": "starting"}


class Heartbeat:
    """A thread that writes this rank's file and reads the others'; a context manager.

    ``beat`` is for the main thread: it costs an assignment.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        size: int,
        *,
        timeout_seconds: float,
        give_up: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``give_up`` gets the reason; by default it is written to ``error-RANK.json`` and the process ends.

        ``now`` is a clock in seconds.
        """
        self.folder, self.rank, self.size = folder, rank, size
        self.timeout_seconds = timeout_seconds
        self._give_up, self._now = give_up or self._end_process, now
        self._count, self._step, self._doing = 0, 0, "starting"
        self._said: dict[int, Said] = {}
        self._changed_at: dict[tuple[int, str], float] = {}
        self._failing_since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def beat(self, step: int, doing: str) -> None:
        """The main thread got here: at ``step``, about to do ``doing``."""
        self._count += 1
        self._step, self._doing = step, doing

    def _run(self) -> None:
        lives = 0
        while True:
            lives += 1
            if problem := self._look(lives):
                self._give_up(problem)
                return
            if self._ended.wait(INTERVAL_SECONDS):
                return

    def _look(self, lives: int) -> str:
        """Say that this rank lives, and what is wrong with any.

        A folder that cannot be written or read for a moment is no reason to end, nor to stop watching.
        """
        said = {"lives": lives, "count": self._count, "step": self._step, "doing": self._doing}
        try:
            _replace(self.folder / f"heartbeat-{self.rank}.json", json.dumps(said))
            problem = self._problem()
        except (OSError, ValueError) as error:
            now = self._now()
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since <= self.timeout_seconds:
                return ""
            return (
                f"rank {self.rank} could not say or hear who lives for {self.timeout_seconds:.0f} s, in {self.folder}: "
                f"{type(error).__name__}: {error}"
            )
        self._failing_since = None
        return problem

    def _problem(self) -> str:
        """Who is behind, where somebody has said nothing, or nobody has come further, for too long."""
        now = self._now()
        for rank in range(self.size):
            self._listen(rank, now)

        def too_long_ago(rank: int, field: str) -> bool:
            # By our own clock: those of two machines differ.
            return now - self._changed_at[rank, field] > self.timeout_seconds

        ranks = range(self.size)
        if silent := [rank for rank in ranks if too_long_ago(rank, "lives")]:
            return self._names(silent, "has stopped answering")
        if all(too_long_ago(rank, "count") for rank in ranks):
            fewest = min(self._said[rank]["count"] for rank in ranks)
            behind = [rank for rank in ranks if self._said[rank]["count"] == fewest]
            return self._names(behind, "has come no further")
        return ""

    def _listen(self, rank: int, now: float) -> None:
        said = _read(self.folder / f"heartbeat-{rank}.json")
        before = self._said.get(rank)
        for field in ("lives", "count"):
            if before is None or before[field] != said[field]:
                self._changed_at[rank, field] = now
        self._said[rank] = said

    def _names(self, ranks: list[int], what: str) -> str:
        where = "; ".join(
            f"rank {rank} {what} for {self.timeout_seconds:.0f} s, last at step "
            f"{self._said[rank]['step']}, {self._said[rank]['doing']}"
            for rank in ranks
        )
        return f"{where} (seen by rank {self.rank} at step {self._step}, {self._doing})"

    def _end_process(self, problem: str) -> None:
        fact = json.dumps({"kind": "", "message": problem})
        _replace(self.folder / f"error-{self.rank}.json", fact)
        os.write(2, f"{problem}\n".encode())
        os._exit(EXIT_STOPPED_ANSWERING)


def _read(path: Path) -> dict[str, Any]:
    try:
        said: Said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return NOTHING_YET
    return said


def _replace(path: Path, text: str) -> None:
    """Not fsynced: it is for the living."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
