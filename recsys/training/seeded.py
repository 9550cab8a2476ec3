"""First weights that depend on nothing but a seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TURN = threading.Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What torch draws inside is that of ``seed``, and what it draws afterwards is as if nothing had been.

    Its generator is the process's: ranks that are threads of one process take turns.
    """
    with _TURN, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
