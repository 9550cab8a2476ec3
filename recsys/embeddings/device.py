"""Where tensors lie. This is the one place that chooses."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")


def device_of(local_rank: int) -> torch.device:
    """The GPU with the number of this process on its machine; the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return CPU
