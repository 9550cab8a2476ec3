"""What a ranking model is shown beside each positive."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.training.pairs import pairs

# Shape suffixes in this file:
#   P positives   N negatives of each   M = 1 + N items shown   Q places, at each of which positives were taken


class ItemDraw:
    """Draws items: half uniform over the catalogue, half by their events in the histories that training reads.

    Uniform ones alone are told from the positives by popularity alone; popular ones alone leave most of the
    catalogue unseen. Where there are no events, all are uniform.
    """

    def __init__(self, num_events_I: NDArray[np.int64], num_negatives: int) -> None:
        """``num_events_I`` by item number, 0 included."""
        self.num_items = len(num_events_I) - 1
        self._upto_I = np.cumsum(num_events_I[1:])
        total = int(self._upto_I[-1]) if self.num_items else 0
        self.num_popular = num_negatives // 2 if total else 0
        self.num_uniform = num_negatives - self.num_popular

    def shown(
        self, query_of_P: Tensor, item_nums_P: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Items (P, M) int64, the positive first, and their weights (P, M) float32.

        A negative that was taken at the same place is none: its weight is 0.
        """
        size = len(item_nums_P)
        uniform_PN = torch.randint(1, self.num_items + 1, (size, self.num_uniform), generator=draw)
        negatives_PN = torch.cat([uniform_PN, self._popular(size, draw)], dim=1)
        taken = pairs(query_of_P, item_nums_P)
        weights_PN = ~torch.isin(pairs(query_of_P.unsqueeze(1), negatives_PN), taken)
        items_PM = torch.cat([item_nums_P.unsqueeze(1), negatives_PN], dim=1)
        return items_PM, torch.cat([torch.ones(size, 1), weights_PN.float()], dim=1)

    def _popular(self, size: int, draw: torch.Generator) -> Tensor:
        if not self.num_popular:
            return torch.zeros(size, 0, dtype=torch.int64)
        total = int(self._upto_I[-1])
        ticket = torch.randint(0, total, (size, self.num_popular), generator=draw).numpy()
        return torch.from_numpy(1 + np.searchsorted(self._upto_I, ticket, side="right"))
