"""The process group as training sees it: Horovod's, a process alone, and (torch_comm.py) torch.distributed's.

Every method but the properties is collective: all ranks call it, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Comm(Protocol):
    """What training needs from a process group, and nothing more."""

    @property
    def rank(self) -> int:
        """0 <= rank < size; rank 0 alone writes files."""

    @property
    def size(self) -> int:
        """The number of ranks, >= 1."""

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        """Make every rank's parameters and buffers those of ``root``."""

    def wrap_optimizer(self, optimizer: Optimizer, model: nn.Module) -> Optimizer:
        """An optimizer to be used through ``synchronize`` and ``step`` of this Comm alone.

        What its own ``step`` does is the implementation's affair: Horovod's averages once more.
        """

    def synchronize(self, optimizer: Optimizer) -> None:
        """Average the gradients of the wrapped ``optimizer`` over the ranks: before they are clipped.

        A parameter that learns and has no gradient has zeros from here on, on any number of ranks.
        """

    def step(self, optimizer: Optimizer) -> None:
        """Update the parameters, after ``synchronize``."""

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        """Element-wise sums over the ranks, in float64; the same bits on every rank."""

    def mean(self, value: float, name: str) -> float:
        """Mean over the ranks."""

    def gather_texts(self, text: str, name: str) -> list[str]:
        """Every rank's text, by rank; on every rank."""

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        """Send part r of a flat tensor, ``splits[r]`` long, to rank r; returns the parts that came, by rank.

        Any type, the same on every rank; parts may be empty.
        """

    def total(self, values: Tensor, name: str) -> Tensor:
        """Element-wise sums over the ranks, in the tensor's own type; the same bits on every rank."""

    def barrier(self) -> None:
        """Return when every rank has come here."""


def fill_missing_gradients(optimizer: Optimizer) -> list[Tensor]:
    """Zeros where a parameter that learns has no gradient, as Horovod makes them; returns all that learn have."""
    grads = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
    return grads


class LocalComm:
    """One process: nothing to exchange."""

    rank = 0
    size = 1

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        pass

    def wrap_optimizer(self, optimizer: Optimizer, model: nn.Module) -> Optimizer:
        return optimizer

    def synchronize(self, optimizer: Optimizer) -> None:
        fill_missing_gradients(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        return [float(value) for value in values]

    def mean(self, value: float, name: str) -> float:
        return float(value)

    def gather_texts(self, text: str, name: str) -> list[str]:
        return [text]

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        return message, list(splits)

    def total(self, values: Tensor, name: str) -> Tensor:
        return values

    def barrier(self) -> None:
        pass


class HorovodComm:
    """Horovod over Gloo (or NCCL, where it was built for it).

    All gradients of a model travel as one group: which of them share a message would otherwise depend
    on timing, and with three or more ranks the order of a sum, so its last bits, on the message.
    """

    def __init__(self) -> None:
        # Heavy, and absent where training runs in one process.
        import horovod.torch as hvd  # noqa: PLC0415

        self._hvd = hvd
        hvd.init()

    @property
    def rank(self) -> int:
        return int(self._hvd.rank())

    @property
    def size(self) -> int:
        return int(self._hvd.size())

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        self._hvd.broadcast_parameters(model.state_dict(), root_rank=root)

    def wrap_optimizer(self, optimizer: Optimizer, model: nn.Module) -> Optimizer:
        wrapped = self._hvd.DistributedOptimizer(
            optimizer,
            named_parameters=list(model.named_parameters()),
            op=self._hvd.Average,
            groups=[[p for p in model.parameters() if p.requires_grad]],
        )
        return cast(Optimizer, wrapped)

    def synchronize(self, optimizer: Optimizer) -> None:
        optimizer.synchronize()  # type: ignore[attr-defined]

    def step(self, optimizer: Optimizer) -> None:
        with optimizer.skip_synchronize():  # type: ignore[attr-defined]
            optimizer.step()

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        local = torch.tensor(list(values), dtype=torch.float64)
        total = self._hvd.allreduce(local, op=self._hvd.Sum, name=name)
        return cast(list[float], total.tolist())

    def mean(self, value: float, name: str) -> float:
        return self.sum([value], name)[0] / self.size

    def gather_texts(self, text: str, name: str) -> list[str]:
        # Bytes in tensors: Horovod's own allgather_object unpickles what the others sent.
        encoded = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        gathered: Tensor = self._hvd.allgather(encoded, name=name)
        return bytes(gathered.tolist()).decode().split("\0")[:-1]

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        sizes = torch.tensor(list(splits), dtype=torch.int32)
        # Horovod's alltoall knows no bool.
        carrier = torch.uint8 if message.dtype == torch.bool else message.dtype
        came, received = self._hvd.alltoall(message.view(carrier), splits=sizes, name=name)
        return came.view(message.dtype), received.tolist()

    def total(self, values: Tensor, name: str) -> Tensor:
        return cast(Tensor, self._hvd.allreduce(values, op=self._hvd.Sum, name=name))

    def barrier(self) -> None:
        self.sum([0.0], "barrier")
