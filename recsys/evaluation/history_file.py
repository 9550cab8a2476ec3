"""The field's file of histories: ``user item item …``, one user a line, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.errors import ContractError, MissingInput
from recsys.evaluation.item_words import attribute_matrix, words
from recsys.recommenders import Histories

MOST_NAMED = 10
MOST_DIGITS = 18
"""Of a number that 64 bits hold."""


@dataclass(frozen=True)
class HistoryFile:
    """Users in the file's order; items numbered from 1 by ascending id."""

    histories: Histories
    item_ids: NDArray[np.int64]
    """Ascending; that of item n is ``item_ids[n - 1]``."""

    @property
    def num_items(self) -> int:
        return len(self.item_ids)


def short_hash(*paths: Path) -> str:
    """Of where files are: tells apart the reports on files of one name in several folders."""
    return sha256("\n".join(str(path.absolute()) for path in paths).encode()).hexdigest()[:8]


def read_histories(path: Path) -> HistoryFile:
    """Every line of ``path``; empty lines are passed over.

    Raises:
        MissingInput: no such file, or nobody in it.
        ContractError: lines without items, with something that is no whole number, or of a user who had one
            before; each is named by its number.
    """
    users: dict[int, int] = {}
    flat: list[int] = []
    lengths: list[int] = []
    wrong: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if not words:
            continue
        if odd := [word for word in words if not _is_number(word)]:
            wrong.append(f"line {number}: {odd[0][:40]!r} is no whole number of at most 18 digits")
            continue
        user, *items = map(int, words)
        if not items:
            wrong.append(f"line {number}: user {user} has no items")
        elif user in users:
            wrong.append(f"line {number}: user {user} was on line {users[user]} already")
        else:
            users[user] = number
            flat += items
            lengths.append(len(items))
    if wrong:
        raise ContractError(
            f"{path}: {len(wrong)} lines are not `user item item …`:\n  "
            + "\n  ".join(wrong[:MOST_NAMED])
            + ("\n  …" if len(wrong) > MOST_NAMED else "")
            + "\nmend or remove these lines; nothing was measured"
        )
    if not users:
        raise MissingInput(f"{path} has no lines `user item item …`: there is nobody to measure on")
    item_ids, places = np.unique(np.array(flat, dtype=np.int64), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return HistoryFile(Histories(offsets, (places + 1).astype(np.int32)), item_ids)


def read_attributes(path: Path, item_ids: NDArray[np.int64]) -> csr_array:
    """(N, A): 1 where an item has a word, of those that two items or more of the shop have.

    A line is ``item_id<TAB>…``: the words of every further column, each column's for themselves. The first
    line may be the columns' names. Items of the file that the shop does not have are left out.

    Raises:
        MissingInput: no such file, or it knows none of the shop's items.
        ContractError: a line without a tab or a number before it, or an item's second line.
    """
    places = {int(item_id): place for place, item_id in enumerate(item_ids.tolist(), start=1)}
    words_of: dict[int, set[str]] = {}
    lines: dict[int, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        first, tab, rest = line.rstrip("\n").partition("\t")
        if not line.strip() or (number == 1 and not _is_number(first)):
            continue
        if not tab or not _is_number(first):
            raise ContractError(
                f"{path} line {number}: wanted `item_id<TAB>…` with a whole number first, found {line[:60]!r}"
            )
        item_id = int(first)
        if item_id in lines:
            raise ContractError(
                f"{path} line {number}: item {item_id} was on line {lines[item_id]} already"
            )
        lines[item_id] = number
        if item_id in places:
            texts = enumerate(rest.split("\t"))
            words_of[places[item_id]] = {word for n, text in texts for word in words(str(n), text)}
    if not words_of:
        raise MissingInput(f"{path} knows none of the {len(item_ids)} items of the histories")
    matrix = attribute_matrix(words_of, len(item_ids))
    if matrix is None:
        raise MissingInput(
            f"{path}: no word is on two items of the histories, so no item says anything of another; leave out "
            "--attributes"
        )
    return matrix


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines: texts of items hold other separators than the end of a line.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise MissingInput(f"no file {path}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ContractError(f"{path} line {line}: no UTF-8") from None


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS
