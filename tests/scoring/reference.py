"""Stage 1 as the definition reads, user by user and item by item; short enough to check by eye."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.users import UserBatch


def reference_scores(
    users: UserBatch,
    b: int,
    kit: Kit,
    recipe: Recipe,
    item_vectors: np.ndarray[Any, Any] | None,
    *,
    length: int = 8,
) -> list[float]:
    """Score of every item number for user ``b``, under the mean encoder."""
    places = range(users.history_offsets[b], users.history_offsets[b + 1])
    nums = [int(users.history_nums[p]) for p in places]
    z = _z_scores(nums, kit, item_vectors, length)
    similarity, transitions = kit.similarity.toarray(), kit.transitions.toarray()
    shares = _popularity(kit, int(users.segments[b]))
    scores = []
    for item in range(kit.width):
        item_item = 0.0
        for t, place in enumerate(places):
            if recipe.targets_only and not users.is_target[place]:
                continue
            weight = users.event_weights[place] * recipe.decay ** (len(nums) - 1 - t)
            item_item += weight * (
                recipe.similarity * similarity[nums[t], item]
                + recipe.transitions * transitions[nums[t], item]
                + recipe.repeat * (nums[t] == item)
            )
        item_item += recipe.due * _chance(users, b, kit, item)
        popularity = recipe.popularity if nums else 1.0
        score = recipe.model * z[item] + np.log1p(50 * item_item) + popularity * shares[item]
        scores.append(float(np.float32(np.round(score, 6))))
    return scores


def reference_list(
    users: UserBatch,
    b: int,
    kit: Kit,
    scores: list[float],
    n: int,
    *,
    exclude_seen: bool = False,
    max_per: Sequence[tuple[str, int]] = (),
) -> list[int]:
    """Masks, then (score, smaller number), then at most so many of each group."""
    hidden = set(users.hidden_nums[users.hidden_offsets[b] : users.hidden_offsets[b + 1]].tolist())
    if exclude_seen:
        hidden |= set(users.seen_nums[users.seen_offsets[b] : users.seen_offsets[b + 1]].tolist())
    allowed = kit.allowed_in(int(users.segments[b]))
    candidates = [i for i in range(kit.width) if allowed[i] and i not in hidden]
    candidates.sort(key=lambda i: (-scores[i], i))
    taken: list[int] = []
    for item in candidates:
        full = any(
            kit.groups[name][item] >= 0
            and sum(kit.groups[name][other] == kit.groups[name][item] for other in taken) >= most
            for name, most in max_per
        )
        if len(taken) < n and not full:
            taken.append(item)
    return taken


def _chance(users: UserBatch, b: int, kit: Kit, item: int) -> float:
    """That the user, who has had the item, takes it again within 28 days; leaning as if on five purchases."""
    reorders = kit.reorders
    days = sorted(
        -float(users.ages_days[p])
        for p in range(users.history_offsets[b], users.history_offsets[b + 1])
        if users.is_target[p] and users.history_nums[p] == item
    )
    if not days or reorders is None:
        return 0.0
    gaps = [
        math.log(day - before) for before, day in itertools.pairwise(days) if day - before > 0.5
    ]
    again = (5 * reorders.again[item] + len(gaps)) / (5 + len(gaps) + 1)
    middle = (5 * reorders.log_days[item] + sum(gaps)) / (5 + len(gaps))
    since = max(-days[-1], 0.5)

    def come_by(after: float) -> float:
        z = (math.log(after) - middle) / reorders.spread[item]
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    before = come_by(since)
    return float(again * (come_by(since + 28) - before) / (1 - again * before))


def _z_scores(
    nums: list[int], kit: Kit, item_vectors: np.ndarray[Any, Any] | None, length: int
) -> np.ndarray[Any, Any]:
    z = np.zeros(kit.width)
    if item_vectors is None:
        return z
    known = [num for num in nums if num < len(item_vectors)][-length:]
    if not known:
        return z
    user = item_vectors[known].astype(np.float32).mean(axis=0, dtype=np.float32).astype(np.float64)
    dots = item_vectors[1:].astype(np.float64) @ user
    if dots.std() > 1e-9 * np.linalg.norm(user) * np.linalg.norm(item_vectors, axis=1).max():
        z[1 : len(item_vectors)] = (dots - dots.mean()) / dots.std()
    return z


def _popularity(kit: Kit, segment: int) -> np.ndarray[Any, Any]:
    buyers = kit.buyers.toarray()
    shop = buyers[0] / max(buyers[0].max(), 1e-300)
    if segment == 0:
        return np.asarray(shop)
    own = buyers[segment] + kit.prior_buyers * shop
    return np.asarray(own / max(own.max(), 1e-300))
