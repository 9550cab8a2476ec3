"""Shops with a planted structure, each with what must be found in it; numbers are drawn by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.recommenders import Histories, Recommender, Shop, Users


@dataclass(frozen=True)
class World:
    shop: Shop
    users: Users
    targets: NDArray[np.int64]
    """(B,)"""
    seen_hidden: bool = True

    def hits(self, fitted: Recommender, k: int) -> float:
        """The part of the users whose target is among the best k; ties to the smaller number."""
        scores = fitted.scores(self.users).astype(np.float64)
        histories = self.users.histories
        if self.seen_hidden:
            scores[histories.rows, histories.item_nums] = -np.inf
        scores[:, 0] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return float((best == self.targets[:, None]).any(axis=1).mean())


def histories(
    rows: Sequence[Sequence[int]], days: Sequence[Sequence[float]] | None = None
) -> Histories:
    """Of literal rows."""
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    nums = np.array([item for row in rows for item in row], dtype=np.int32)
    when = (
        None if days is None else np.array([day for row in days for day in row], dtype=np.float64)
    )
    return Histories(offsets, nums, when)


def unknown(rows: Histories, segments: NDArray[np.int64] | None = None) -> Users:
    """Users whom no shop knows."""
    return Users(rows, np.zeros(len(rows), dtype=np.int64), segments)


def chains(seed: int = 1) -> World:
    """Whoever had an item takes its one successor next, four times out of five; all items are as popular."""
    rng = np.random.default_rng(seed)
    successor = np.concatenate([[0], rng.permutation(80) + 1])

    def walk(length: int) -> list[int]:
        row = [int(rng.integers(1, 81))]
        while len(row) < length:
            follows = rng.random() < 0.8
            row.append(int(successor[row[-1]]) if follows else int(rng.integers(1, 81)))
        return row

    shop = Shop(80, histories([walk(12) for _ in range(300)]))
    asked = histories([walk(6) for _ in range(200)])
    targets = successor[asked.newest()]
    fresh = np.array(
        [target not in row for target, row in zip(targets, rows_of(asked), strict=True)]
    )
    users = unknown(asked.take(np.flatnonzero(fresh)))
    return World(shop, users, targets[fresh])


def groups(seed: int = 2) -> World:
    """Each user likes one group of 12 items and has 6 of it in any order, and a few of all; the target is a seventh."""
    rng = np.random.default_rng(seed)

    def row() -> tuple[list[int], int]:
        group = int(rng.integers(10))
        liked = 1 + 12 * group + rng.permutation(12)[:7]
        others = 1 + rng.choice(120, 2, replace=False)
        had = [item for item in rng.permutation([*liked[:6], *others]).tolist() if item != liked[6]]
        return had, int(liked[6])

    shop = Shop(120, histories([row()[0] for _ in range(400)]))
    asked = [row() for _ in range(150)]
    users = unknown(histories([had for had, _ in asked]))
    return World(shop, users, np.array([target for _, target in asked]))


def cold_items(seed: int = 3) -> World:
    """Users buy one kind of item; the target is the one item of that kind that nobody bought yet."""
    rng = np.random.default_rng(seed)
    kind = np.concatenate([[-1], rng.permutation(np.repeat(np.arange(8), 10))])
    cold = np.array([np.flatnonzero(kind == wanted)[-1] for wanted in range(8)])
    attributes = np.zeros((81, 8 + 5))
    attributes[np.arange(1, 81), kind[1:]] = 1
    attributes[np.arange(1, 81), rng.integers(8, 13, size=80)] = 1  # a colour, which says nothing

    def row(liked: int) -> list[int]:
        warm = np.setdiff1d(np.flatnonzero(kind == liked), cold)
        return [int(item) for item in rng.permutation(warm)]

    shop = Shop(80, histories([row(user % 8)[:5] for user in range(200)]))
    shop = Shop(80, shop.histories, attributes=csr_array(attributes))
    liked = rng.integers(8, size=100)
    # the nine warm ones are seen: of the kind only the cold one is left
    users = unknown(histories([row(int(wanted)) for wanted in liked]))
    return World(shop, users, cold[liked])


def re_orders(seed: int = 4) -> World:
    """Item n is taken every 6, 20 or 60 days; whoever is asked for is due for one of his five items alone."""
    rng = np.random.default_rng(seed)
    interval = np.concatenate([[0.0], np.tile([6.0, 20.0, 60.0], 10)])

    def row(due: int, items: NDArray[np.int64]) -> list[tuple[float, int]]:
        events = []
        for item in items:
            every = interval[item]
            since = every if item == due else every * 0.3
            count = 6 if every < 60 else 3
            noise = rng.normal(0, 0.03 * every, size=count)
            events += [
                (400 - since - back * every + noise[back], int(item)) for back in range(count)
            ]
        return sorted(events)

    def some(count: int) -> tuple[Histories, NDArray[np.int64]]:
        rows, due = [], []
        for _ in range(count):
            items = 1 + rng.choice(30, 5, replace=False)
            due.append(int(items[0]))
            rows.append(row(due[-1], items))
        nums, days = [[n for _, n in r] for r in rows], [[d for d, _ in r] for r in rows]
        return histories(nums, days), np.array(due)

    shop = Shop(30, some(150)[0], as_of=400.0)
    asked, targets = some(150)
    return World(shop, unknown(asked), targets, seen_hidden=False)


def trend(seed: int = 5) -> World:
    """For a year items 1 to 10 sold best; for two weeks it has been items 31 to 40."""
    rng = np.random.default_rng(seed)
    rows, days = [], []
    for _ in range(300):
        old = rng.uniform(0, 350, size=9)
        new = rng.uniform(351, 365, size=2)
        when = np.sort(np.concatenate([old, new]))
        best = np.where(when < 351, rng.integers(1, 11, size=11), rng.integers(31, 41, size=11))
        rows.append(np.where(rng.random(11) < 0.8, best, rng.integers(1, 61, size=11)).tolist())
        days.append(when.tolist())
    shop = Shop(60, histories(rows, days), as_of=365.0)
    nobody = histories([[]] * 100, [[]] * 100)
    return World(shop, unknown(nobody), rng.integers(31, 41, size=100))


def segments(seed: int = 6) -> World:
    """Each of four segments buys ten items of its own; the first segment is the largest."""
    rng = np.random.default_rng(seed)
    segment = rng.choice([1, 1, 1, 1, 1, 2, 3, 4], size=400)

    def row(of: int) -> list[int]:
        return [1 + 10 * (of - 1) + int(item) for item in rng.integers(10, size=6)]

    shop = Shop(60, histories([row(of) for of in segment]), segments=segment)
    asked = rng.integers(2, 5, size=100)
    targets = 1 + 10 * (asked - 1) + rng.integers(10, size=100)
    return World(shop, unknown(histories([[]] * 100), asked), targets)


def favourites(seed: int = 7) -> World:
    """Users take again what they took most and last; the shop's best sellers are others."""
    rng = np.random.default_rng(seed)

    def row(favourite: int) -> list[int]:
        return [1, 2, favourite, 3, favourite, int(rng.integers(4, 60)), favourite, 2]

    shop = Shop(60, histories([row(int(rng.integers(4, 60))) for _ in range(200)]))
    wanted = rng.integers(4, 60, size=100)
    asked = unknown(histories([row(int(item)) for item in wanted]))
    return World(shop, asked, wanted, seen_hidden=False)


def rows_of(events: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(events.item_nums, events.offsets[1:-1])]
