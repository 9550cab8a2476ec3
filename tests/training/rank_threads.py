"""Ranks that are threads of the test's process: a training run in a second, of any size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from recsys.embeddings import Comm
from tests.embeddings.test_sharded import ThreadComm

T = TypeVar("T")


class TrainingThreadComm(ThreadComm):
    """Adds sums and averaged gradients. The threads share torch's own generator: train without dropout."""

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        return self.total(torch.tensor(list(values), dtype=torch.float64), name).tolist()

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        states = self._all({name: value.clone() for name, value in model.state_dict().items()})
        model.load_state_dict(states[root])

    def synchronize(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert parameter.grad is not None
                parameter.grad = self.total(parameter.grad, "gradient") / self.size

    def mean(self, value: float, name: str) -> float:
        return self.sum([value], name)[0] / self.size

    def barrier(self) -> None:
        self._all(None)


def run_ranks(size: int, of_rank: Callable[[Comm], T]) -> list[T]:
    """What each rank returns; the error of one is raised, and the others end."""
    table: list[Any] = [None] * size
    meeting = threading.Barrier(size)

    def one(rank: int) -> T:
        try:
            return of_rank(TrainingThreadComm(rank, size, table, meeting))
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        ended = [pool.submit(one, rank) for rank in range(size)]
    errors = [error for future in ended if (error := future.exception())]
    told = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)] or errors
    if told:
        raise told[0]
    return [future.result() for future in ended]
