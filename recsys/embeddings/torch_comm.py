"""A process group of torch.distributed, for clusters that may not run Horovod.

Nothing here pickles: torch's own ``*_object`` collectives unpickle what the other ranks send.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from recsys.embeddings.comm import fill_missing_gradients
from recsys.embeddings.device import CPU


class TorchComm:
    """Gloo on the CPU, NCCL on GPUs.

    The ranks meet in a file, on this machine's disk or one that all machines mount, so that no rendezvous port
    is open; and they listen on ``interface`` alone.
    """

    def __init__(
        self, *, rank: int, size: int, meeting: Path, interface: str = "lo", device: torch.device = CPU,
        timeout_seconds: int = 600,
    ) -> None:  # fmt: skip
        """``meeting`` is a file that does not exist yet, the same for all ranks and new for each run."""
        self.rank, self.size, self._device = rank, size, device
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
        distributed.init_process_group(
            "gloo" if device.type == "cpu" else "nccl",
            store=distributed.FileStore(str(meeting), size),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_seconds),
        )

    def close(self) -> None:
        distributed.destroy_process_group()

    def broadcast_parameters(self, model: nn.Module, root: int = 0) -> None:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=root)

    def wrap_optimizer(self, optimizer: Optimizer, model: nn.Module) -> Optimizer:
        return optimizer

    def synchronize(self, optimizer: Optimizer) -> None:
        """One flat sum: which gradients share a message would otherwise decide the order of a sum."""
        if not (grads := fill_missing_gradients(optimizer)):
            return
        mean = self.total(torch.cat([grad.flatten() for grad in grads]), "gradients") / self.size
        for grad, part in zip(
            grads, mean.split_with_sizes([g.numel() for g in grads]), strict=True
        ):
            grad.copy_(part.view_as(grad))

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        local = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        return [float(value) for value in self.total(local, name)]

    def mean(self, value: float, name: str) -> float:
        return self.sum([value], name)[0] / self.size

    def gather_texts(self, text: str, name: str) -> list[str]:
        message = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        message = message.to(self._device)
        came, _ = self.exchange(message.repeat(self.size), [len(message)] * self.size, name)
        return bytes(came.tolist()).decode().split("\0")[:-1]

    def exchange(
        self, message: Tensor, splits: Sequence[int], name: str
    ) -> tuple[Tensor, list[int]]:
        sizes = torch.tensor(list(splits), dtype=torch.int64, device=self._device)
        announced = torch.empty_like(sizes)
        distributed.all_to_all_single(announced, sizes)
        received = announced.tolist()
        came = message.new_empty(sum(received))
        distributed.all_to_all_single(came, message.contiguous(), received, list(splits))
        return came, received

    def total(self, values: Tensor, name: str) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def barrier(self) -> None:
        self.sum([0.0], "barrier")
