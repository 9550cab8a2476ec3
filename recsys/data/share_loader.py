"""Batches of one rank's examples, from any position of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from recsys.data.batches import Batch, batch_of
from recsys.data.examples import Examples, joined
from recsys.data.position import EpochPosition, Leg, batch_start, order_of, taken_up
from recsys.errors import ContractError

# Shape suffixes in this file:
#   E examples of this rank's share   B examples in the batch


class ShareLoader:
    """Gives every example of an epoch exactly once, over all ranks, stops and numbers of ranks.

    Ranks have unequal shares, and a rank that stopped early would leave the others waiting in a collective. So
    all take the same steps, and a smaller share makes smaller batches, empty ones where it has fewer examples
    than there are steps; nothing is left over. Who trains gives a smaller batch less weight (``batch_sizes``): an
    example must not count for more because its rank has few.

    One share is held in memory from one step to the next; while it is read, what ``read`` copies out of it comes on
    top. Where the number of ranks changed within an epoch, the shares of the ranks before are read one after the
    other, twice (to count, then to take), for the rest of that epoch alone.
    """

    def __init__(
        self, read: Callable[[int, int], Examples], *, rank: int, size: int, seed: int
    ) -> None:
        """``read(rank, size)`` gives a rank's examples, the same ones in the same order each time."""
        self._read, self._rank, self._size, self._seed = read, rank, size, seed
        self._held: tuple[tuple[int, tuple[Leg, ...]], Examples] | None = None

    def share_size(self, position: EpochPosition) -> int:
        """Examples that this rank has in the leg under way, done or not; in the next leg where none is."""
        return len(self._share(position))

    def batches(self, position: EpochPosition) -> Iterator[Batch]:
        """The batches of the leg under way that are not done yet: equal positions give equal batches."""
        leg = position.under_way(self._size)
        if leg is None:
            raise ContractError(
                f"the loader's position has no leg of {self._size} ranks under way (legs of "
                f"{[one.world_size for one in position.legs]}): agree on its steps and add it first"
            )
        return self._batches(self._share(position), position.epoch, leg)

    def _batches(self, examples: Examples, epoch: int, leg: Leg) -> Iterator[Batch]:
        num = len(examples)
        order_E = order_of(num, seed=self._seed, epoch=epoch, rank=self._rank, size=self._size)
        for step in range(leg.done, leg.steps):
            chosen_B = order_E[
                batch_start(num, leg.steps, step) : batch_start(num, leg.steps, step + 1)
            ]
            yield batch_of(examples, chosen_B)

    def _share(self, position: EpochPosition) -> Examples:
        earlier = position.before(self._size)
        key = (position.epoch if earlier else 0, earlier)
        if self._held is None or self._held[0] != key:
            self._held = None  # before the next is read: never two
            self._held = (
                key,
                self._take_up(position.epoch, earlier)
                if earlier
                else self._read(self._rank, self._size),
            )
        return self._held[1]

    def _take_up(self, epoch: int, earlier: Sequence[Leg]) -> Examples:
        first_size = earlier[0].world_size
        counts = [len(self._read(rank, first_size)) for rank in range(first_size)]
        mine_E = taken_up(
            counts, earlier, seed=self._seed, epoch=epoch, rank=self._rank, size=self._size
        )
        ends = np.cumsum([0, *counts])
        cuts = np.searchsorted(mine_E, ends)
        parts = []
        for rank in range(first_size):
            wanted_E = mine_E[cuts[rank] : cuts[rank + 1]] - ends[rank]
            if len(wanted_E) or (rank == 0 and not len(mine_E)):  # no examples is a share, too
                parts.append(self._read(rank, first_size).rows(torch.from_numpy(wanted_E)))
        return joined(parts)
