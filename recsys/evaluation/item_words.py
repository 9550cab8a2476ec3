"""What is said of items, as columns of ones: the form in which a ``Shop`` has attributes.

Shape suffixes: N catalogue (num_items + 1), A attributes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Set

import numpy as np
from scipy.sparse import csr_array

WORD = re.compile(r"\w+")


def words(column: str, text: str) -> set[str]:
    """``column:word`` for each word of ``text``; the same word in another column is another attribute."""
    return {f"{column}:{word}" for word in WORD.findall(text.lower())}


def attribute_matrix(words_of: Mapping[int, Set[str]], num_items: int) -> csr_array | None:
    """(N, A): 1 where an item has a word, of those that two items or more have; None where there are none.

    Columns are in the order of the words, so that equal items give equal arrays.
    """
    counts = Counter(word for found in words_of.values() for word in found)
    shared = sorted(word for word, count in counts.items() if count > 1)
    column_of = {word: column for column, word in enumerate(shared)}
    cells = [
        (item, column_of[word])
        for item, found in sorted(words_of.items())
        for word in sorted(found & column_of.keys())
    ]
    if not cells:
        return None
    rows, columns = np.array(cells, dtype=np.int64).T
    ones = np.ones(len(cells), dtype=np.float32)
    return csr_array((ones, (rows, columns)), shape=(num_items + 1, len(column_of)))
