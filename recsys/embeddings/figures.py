"""Where the time of the embedding steps goes, and what they send."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Literal

Phase = Literal["route", "exchange", "look_up", "update"]


@dataclass
class StepFigures:
    """Sums over the steps since the figures were last taken. On a GPU work is counted where it is waited for."""

    route_seconds: float = 0.0
    """Finding the distinct rows of the ids, and whose they are."""
    exchange_seconds: float = 0.0
    """Waiting for the other ranks and moving bytes between them."""
    look_up_seconds: float = 0.0
    """Copying rows out of the tables."""
    update_seconds: float = 0.0
    """Summing gradients and writing rows."""
    sent_bytes: int = 0
    """From this rank to others, padding included; what a rank keeps for itself is not sent."""

    def take(self) -> StepFigures:
        """What has been added up; starts again from zero."""
        taken = replace(self)
        for figure in fields(self):
            setattr(self, figure.name, figure.default)
        return taken

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            name = f"{phase}_seconds"
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
