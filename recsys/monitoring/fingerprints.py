"""Order-free hashes of keyed values, by bucket: two copies of any size are compared by a few numbers.

As anti-entropy does it between replicas (DeCandia et al., Dynamo, SOSP 2007): equal buckets hold equal content, and
only those that differ are looked into. A key's bucket and the hash of its value are the same wherever they are taken:
on a Spark worker from Arrow, here from the snapshot.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

import numpy as np
from numpy.typing import NDArray

# Shape suffix in this file: K buckets.
BUCKETS = 4096
AT_A_TIME = 65_536
Bytes = bytes | memoryview


def bucket_of(key: bytes) -> int:
    return zlib.crc32(key) % BUCKETS


def digest_of(key: bytes, value: Bytes) -> int:
    """64 bits of both: a value that moved to another key is another content."""
    hashed = blake2b(len(key).to_bytes(4, "little"), digest_size=8)
    hashed.update(key)
    hashed.update(value)
    return int.from_bytes(hashed.digest(), "little")


@dataclass
class Fingerprint:
    """Counts, and sums of hashes mod 2^64, by bucket."""

    rows_K: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))
    sums_K: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(BUCKETS, np.uint64))

    def add(self, pairs: Iterable[tuple[bytes, Bytes]]) -> None:
        """Count in keys and their values, in any order."""
        hashed = ((bucket_of(key), digest_of(key, value)) for key, value in pairs)
        while found := list(islice(hashed, AT_A_TIME)):
            buckets = np.array([bucket for bucket, _ in found], np.int64)
            np.add.at(self.rows_K, buckets, 1)
            np.add.at(self.sums_K, buckets, np.array([digest for _, digest in found], np.uint64))

    def add_sums(
        self, buckets: NDArray[np.int64], rows: NDArray[np.int64], sums: NDArray[np.uint64]
    ) -> None:
        """Count in what was added up elsewhere."""  # fmt: skip
        np.add.at(self.rows_K, buckets, rows)
        np.add.at(self.sums_K, buckets, sums)

    @property
    def rows(self) -> int:
        return int(self.rows_K.sum())

    def differing(self, other: Fingerprint) -> frozenset[int]:
        """The buckets that do not hold the same."""
        differs_K = (self.rows_K != other.rows_K) | (self.sums_K != other.sums_K)
        return frozenset(np.flatnonzero(differs_K).tolist())
