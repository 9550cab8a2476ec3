"""The attributes of items as bags, whose mean vector is added to the item's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from recsys.embeddings import Bags

# Shape suffixes in this file:
#   N catalogue (num_items + 1)   K items   P attributes of all of them   D embedding width


@dataclass(frozen=True)
class ItemAttributes:
    """What items are; item 0 is nothing."""

    nums_P: Tensor
    """int64, attributes of item 0, 1, ... end to end."""
    ends_N: Tensor
    """(N + 1,) int64, from 0: where those of each item begin."""
    num_attributes: int

    @classmethod
    def of(cls, facts: Mapping[str, NDArray[Any]]) -> Self:
        """From the arrays that ``histories_files.write_facts`` wrote."""
        return cls(
            torch.from_numpy(facts["attribute_nums_P"]), torch.from_numpy(facts["attribute_ends_I"]),
            int(facts["num_attributes"]),
        )  # fmt: skip

    def bags(self, items_K: Tensor) -> Bags:
        """One for each item, in this order; empty where it has none."""
        starts_K = self.ends_N[items_K]
        sizes_K = self.ends_N[items_K + 1] - starts_K
        first_K = sizes_K.cumsum(0) - sizes_K
        within_P = torch.arange(int(sizes_K.sum())) - first_K.repeat_interleave(sizes_K)
        return Bags(self.nums_P[starts_K.repeat_interleave(sizes_K) + within_P], first_K)


def with_attributes(
    items_ND: NDArray[np.float32], of_attributes: NDArray[np.float32], attributes: csr_array
) -> NDArray[np.float32]:
    """(N, D): each item's own vector and the mean of its attributes'."""
    sizes_N = np.maximum(np.diff(attributes.indptr), 1)
    ones = csr_array(
        (np.ones(len(attributes.indices)), attributes.indices, attributes.indptr), attributes.shape
    )
    means_ND = diags_array(1.0 / sizes_N) @ ones @ of_attributes
    found: NDArray[np.float32] = (items_ND + means_ND).astype(np.float32)
    return found
