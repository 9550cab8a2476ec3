"""Ranks that are threads of the test's process: a group of any size in no time.

They share torch's own generator: train without dropout.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recsys.embeddings import Comm, LocalComm
from recsys.embeddings.comm import fill_missing_gradients

T = TypeVar("T")


class ThreadComm(LocalComm):
    """A rank that is a thread: what all send lies on one table, between two meetings."""

    def __init__(self, rank: int, size: int, table: list[Any], meeting: threading.Barrier) -> None:
        self.rank, self.size, self._table, self._meeting = rank, size, table, meeting

    def _all(self, mine: Any) -> list[Any]:
        self._table[self.rank] = mine
        self._meeting.wait(timeout=60)
        everything = list(self._table)
        self._meeting.wait(timeout=60)
        return everything

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        parts = [sent[self.rank] for sent in self._all(message.split_with_sizes(list(splits)))]
        return torch.cat(parts), [len(part) for part in parts]

    def total(self, values: Tensor, name: str) -> Tensor:
        return torch.stack(self._all(values)).sum(dim=0)

    def gather_texts(self, text: str, name: str) -> list[str]:
        return self._all(text)

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        return self.total(torch.tensor(list(values), dtype=torch.float64), name).tolist()

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        states = self._all({name: value.clone() for name, value in model.state_dict().items()})
        model.load_state_dict(states[root])

    def synchronize(self, optimizer: Optimizer) -> None:
        fill_missing_gradients(optimizer)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:  # a new tensor: the others may still read the old one
                    parameter.grad = self.total(parameter.grad, "gradient") / self.size

    def mean(self, value: float, name: str) -> float:
        return self.sum([value], name)[0] / self.size

    def barrier(self) -> None:
        self._all(None)


@contextmanager
def one_parser_at_a_time() -> Iterator[None]:
    """Python 3.11 counts the depth of syntax trees for all threads together (cpython issue 106905).

    numpy reads the header of an array by ``ast.literal_eval``, and ranks that are threads read at once.
    """
    lock, literal_eval = threading.Lock(), ast.literal_eval

    def alone(source: Any) -> Any:
        with lock:
            return literal_eval(source)

    with patch("ast.literal_eval", alone):
        yield


def run_ranks(size: int, of_rank: Callable[[Comm], T]) -> list[T]:
    """What each rank returns; the error of one is raised, and the others end."""
    table: list[Any] = [None] * size
    meeting = threading.Barrier(size)

    def one(rank: int) -> T:
        try:
            return of_rank(ThreadComm(rank, size, table, meeting))
        except BaseException:
            meeting.abort()
            raise

    with one_parser_at_a_time(), ThreadPoolExecutor(size) as pool:
        ended = [pool.submit(one, rank) for rank in range(size)]
    errors = [error for future in ended if (error := future.exception())]
    told = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)] or errors
    if told:
        raise told[0]
    return [future.result() for future in ended]
