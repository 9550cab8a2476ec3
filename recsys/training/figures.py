"""What an epoch cost: seconds by phase, bytes on the wire, memory.

The reading of the examples comes before it, see ``epoch_started``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recsys.embeddings import Comm, ShardedEmbeddings


class Clock:
    """Seconds by phase, added up since they were last taken."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self._seconds[phase] = self._seconds.get(phase, 0.0) + passed

    def take(self) -> dict[str, float]:
        taken, self._seconds = self._seconds, {}
        return taken


def peak_memory_bytes() -> int:
    """The most this process has held, in main memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_device_bytes(device: torch.device) -> int:
    """The most that torch has held on this process's GPU; 0 where it has none."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


class EpochFigures:
    """What an epoch cost, from the first step that this process took of it."""

    def __init__(self, clock: Clock, embeddings: ShardedEmbeddings, comm: Comm) -> None:
        self._clock, self._embeddings, self._comm = clock, embeddings, comm
        clock.take()
        embeddings.take_figures()
        self._started = time.perf_counter()
        self._steps = self._examples = 0

    def step_done(self, num_examples: int) -> None:
        self._steps += 1
        self._examples += num_examples

    def of_all_ranks(self) -> dict[str, Any]:
        """Examples a second of all ranks; bytes and seconds a step, mean of the ranks; peak memory by rank, and device.

        Collective. ``ms_per_step``: load (the loader), route (distinct ids), exchange (ids, rows and
        gradients of the tables, sums of dense gradients, and waiting for other ranks), look_up (rows out
        of the tables), dense (negatives, forward, backward), update (rows, and dense weights).
        """
        seconds = time.perf_counter() - self._started
        phases, tables = self._clock.take(), self._embeddings.take_figures()
        mine = {
            "load": phases.get("load", 0.0),
            "route": tables.route_seconds,
            "exchange": tables.exchange_seconds + phases.get("exchange", 0.0),
            "look_up": tables.look_up_seconds,
            "dense": phases.get("dense", 0.0),
            "update": tables.update_seconds + phases.get("update", 0.0),
        }
        examples, sent, *sums = self._comm.sum(
            [self._examples, tables.sent_bytes, *mine.values()], "figures"
        )
        each = self._comm.size * max(1, self._steps)
        peaks = [peak_memory_bytes(), peak_device_bytes(self._embeddings.device)]
        of_ranks = map(json.loads, self._comm.gather_texts(json.dumps(peaks), "memory"))
        main, device = zip(*of_ranks, strict=True)
        return {
            "seconds": seconds,
            "steps": self._steps,
            "examples_per_second": examples / seconds,
            "exchanged_bytes_per_step": sent / each,
            "ms_per_step": {n: 1000 * s / each for n, s in zip(mine, sums, strict=True)},
            "peak_memory_bytes": main,
            **({"peak_device_memory_bytes": device} if any(device) else {}),
        }
