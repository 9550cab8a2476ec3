"""One /metrics for all workers of a service: each leaves word of what it counted, and whoever is scraped adds up.

Requests are counted as plain integers as ever; prometheus_client's own way to do this takes a lock and writes to a file
for every count. A worker writes down its samples once a second, and before it answers a scrape: what one scrape told,
the next one finds, whichever worker it reaches, so no sum falls. Where it cannot write, it tells what it last wrote.
"""

from __future__ import annotations

import asyncio
import operator
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, gettempdir

import orjson
import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

log = structlog.get_logger()

WRITTEN_SECONDS = 1.0
GONE_SECONDS = 5.0
"""A worker that left no word for so long has ended, or hangs: what it counted holds, what it was does not."""

GAUGES: dict[str, Callable[[float, float], float]] = {
    "recsys_in_flight": operator.add,
    "recsys_degraded": max,
    "recsys_release": max,  # every release that some worker serves: while they differ, there are two
    "recsys_release_run_date_seconds": min,
    "recsys_snapshot_keys": min,
    "recsys_blocked_items": min,
    # Read from a file of the host's when a worker is scraped: the newest is the truth.
    "recsys_pull_epoch": max,
    "recsys_pull_last_success_seconds": max,
}
"""What a gauge of the service is, given those of two workers: the worse of them. Everything else is a sum."""

PLACES = ("/dev/shm", None)
"""Where the folder is made, the first that will have it: in memory, where no write waits for a disk or finds it full
and nobody sweeps what is old; else where temporary files go."""
PREFIX = "recsys-serve-"
ABANDONED_SECONDS = 3600.0
"""A folder in which no worker wrote for so long is a killed service's."""

Labels = tuple[tuple[str, str], ...]
Word = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]
"""What one worker says of each metric: name, meaning, kind, and its samples."""


@dataclass
class Family:
    """One metric: its samples by name and labels."""

    meaning: str
    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def take_in(self, name: str, labels: Labels, value: float) -> None:
        key = name, labels
        both = GAUGES[name] if self.kind == "gauge" else operator.add
        self.samples[key] = both(self.samples[key], value) if key in self.samples else value


class AllWorkers(Collector):
    """The samples of this worker and of all that share ``folder``, those that have ended included.

    Each worker is the only writer of its file, which is renamed over the one before: nobody waits, and nobody reads
    half of one. A worker that is started anew has a new file.
    """

    def __init__(self, mine: Collector, folder: Path) -> None:
        self._mine = mine
        self._path = folder / f"{secrets.token_hex(8)}.json"
        self._written: Word = []
        """What the others find of this worker."""
        self._problem = ""

    async def keep_written(self) -> None:
        """Until cancelled, and a last time then."""
        try:
            while True:
                self.write()
                await asyncio.sleep(WRITTEN_SECONDS)
        finally:
            self.write()

    def write(self) -> Word:
        """Leave word for the others; returns it. A full disk must not end the service.

        What could not be written is not told either, gauges aside: a sum of two workers that know different counts of
        a third would fall from one scrape to the next, which Prometheus takes for a start from nothing.
        """
        now: Word = [
            (one.name, one.documentation, one.type, [(s.name, s.labels, s.value) for s in one.samples])
            for one in self._mine.collect()
        ]  # fmt: skip
        problem = ""
        try:
            unfinished = self._path.with_suffix(".new")
            unfinished.write_bytes(orjson.dumps(now))
            os.replace(unfinished, self._path)
            self._written = now
        except OSError as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.error("metrics_not_shared", problem=problem)
        self._problem = problem
        both = zip(now, self._written or now, strict=True)
        return [mine if mine[2] == "gauge" else written for mine, written in both]

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Family] = {}
        _take_in(families, self.write(), with_gauges=True)
        for path in self._path.parent.glob("*.json"):
            if path != self._path:
                with suppress(FileNotFoundError):  # somebody empties the folder: the rest is told
                    age_seconds = time.time() - path.stat().st_mtime
                    word = orjson.loads(path.read_bytes())
                    _take_in(families, word, with_gauges=age_seconds < GONE_SECONDS)
        for name, family in families.items():
            metric = Metric(name, family.meaning, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _take_in(families: dict[str, Family], word: Word, *, with_gauges: bool) -> None:
    for name, meaning, kind, samples in word:
        if kind == "gauge" and not with_gauges:
            continue
        family = families.setdefault(name, Family(meaning, kind))
        for sample, labels, value in samples:
            family.take_in(sample, tuple(labels.items()), value)


@contextmanager
def shared_folder(workers: int) -> Iterator[Path | None]:
    """Where the workers of one service leave word, for as long as it runs; None for one that is alone, and where no
    folder can be made: each worker shows its own metrics then."""
    folder = None if workers == 1 else _new_folder()
    with folder or nullcontext() as name:
        yield None if name is None else Path(name)


def _new_folder() -> TemporaryDirectory[str] | None:
    problem = ""
    for place in PLACES:
        try:
            _sweep_abandoned(Path(place or gettempdir()))
            # A worker that hangs may write while the folder is emptied: that must not be what the service ends with.
            return TemporaryDirectory(
                dir=place, prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
            )
        except OSError as error:
            problem = str(error)
    log.error("metrics_not_shared", problem=problem)
    return None


def _sweep_abandoned(place: Path) -> None:
    """Take away what killed services left; in /dev/shm it would hold memory until the host starts anew."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another service sweeps, too; what cannot be read is not ours
            # On a full disk nothing is renamed into the folder, yet its files are opened for writing.
            written = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - written > ABANDONED_SECONDS:
                rmtree(folder, ignore_errors=True)
                log.info("abandoned_metrics_swept", folder=str(folder))
