"""What goes with the clicks of the last minute, from the snapshot alone.

Items similar to the recent ones, each by the similarity of its shelf times a weight that falls with every step
back, are merged with the visitor's stored list, if there is one, by reciprocal ranks: the scores of the two are of
different kinds, their orders are not. Source: Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
Condorcet and individual rank learning methods", SIGIR 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import orjson

from recsys.release.stored_list import WHOLE_SHOP, Bytes, first, length
from recsys.serving.answers import Answers, Found
from recsys.serving.current import Open
from recsys.serving.metrics import Metrics
from recsys.serving.request import Filters, SessionWish

DECAY = 0.8
"""Weight of a recent item against the next newer one."""
SHELF = 20
"""Items of a shelf that are looked at; what is behind them is there for the shelf's own route to fill up from."""
RANK_CONSTANT = 60
"""Of reciprocal rank fusion; the paper's value. Larger: the first places count less."""


class Sessions:
    """Answers of ``POST /v1/recommendations``."""

    def __init__(self, answers: Answers, metrics: Metrics) -> None:
        self._answers = answers
        self._metrics = metrics

    def of(self, opened: Open, wish: SessionWish) -> Found:
        """A list of ``wish.n`` items, none of them recent, excluded or blocked; unknown recent items are ignored.

        Where nothing recent is known, or nothing goes with it: the visitor's stored list, or the popular one.
        """
        shelves = _shelves(opened, wish.recent)
        hidden = wish.exclude | frozenset(wish.recent)
        similar = _by_similarity(shelves)
        value = None if wish.user_id is None else opened.store.get("users", wish.user_id)
        if not similar.keys() - hidden - opened.blocked:
            filters = Filters(hidden) if hidden else None
            if wish.user_id is None:  # nobody was looked up, and nobody missed
                found = self._answers.popular(opened, WHOLE_SHOP, wish.n, filters)
            else:
                found = self._answers.of_value(opened, value, wish.n, filters)
            return found._replace(fallback="nothing_similar") if shelves else found
        if wish.user_id is not None:
            self._metrics.lookups["users"]["miss" if value is None else "hit"] += 1
        stored = (
            {} if value is None else {item["item_id"]: item["source"] for item in _items(value)}
        )
        sources = stored | dict.fromkeys(similar, "similar")
        scores = _merged(similar, stored)
        best_first = sorted(scores, key=scores.__getitem__, reverse=True)
        items = [
            {"item_id": item_id, "score": round(scores[item_id], 6), "source": sources[item_id]}
            for item_id in self._shown(opened, best_first, hidden, wish.n)
        ]
        if len(items) < wish.n:
            items += self._popular(opened, items, hidden, wish.n)
        return Found("session", orjson.dumps(items)[1:-1])

    def _shown(self, opened: Open, item_ids: Iterable[str], hidden: Set[str], n: int) -> list[str]:
        shown: list[str] = []
        for item_id in item_ids:
            if item_id in hidden:
                continue
            if item_id in opened.blocked:
                self._metrics.withheld.inc()
                continue
            shown.append(item_id)
            if len(shown) == n:
                break
        return shown

    def _popular(
        self, opened: Open, before: list[dict[str, Any]], hidden: frozenset[str], n: int
    ) -> list[dict[str, Any]]:
        """What fills up a list that is too short, with scores below those ``before``."""
        value = opened.store.get("segments", WHOLE_SHOP)
        if value is None:
            return []
        taken = hidden | {item["item_id"] for item in before}
        lowest = before[-1]["score"]
        best_first = [item["item_id"] for item in _items(value)]
        shown = self._shown(opened, best_first, taken, n - len(before))
        return [
            {"item_id": item_id, "score": round(lowest / (1 + rank), 6), "source": "popular"}
            for rank, item_id in enumerate(shown, start=1)
        ]


def _items(value: Bytes, n: int | None = None) -> list[dict[str, Any]]:
    """The first ``n`` of a stored list, or all, as plain dictionaries: 300 are read for an answer, too many for a class
    of ours."""
    wanted = first(value, length(value) if n is None else n)
    items: list[dict[str, Any]] = orjson.loads(b"".join((b"[", wanted, b"]")))
    return items


def _shelves(opened: Open, recent: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """The shelf of each recent item that the release knows, the newest first; each item once."""
    newest_first = list(dict.fromkeys(reversed(recent)))
    values = opened.store.get_many("items", newest_first)
    return [_items(value, SHELF) for value in values if value is not None]


def _by_similarity(shelves: Iterable[list[dict[str, Any]]]) -> dict[str, float]:
    scores: dict[str, float] = {}
    weight = 1.0
    for shelf in shelves:
        for item in shelf:
            item_id = item["item_id"]
            scores[item_id] = scores.get(item_id, 0.0) + weight * item["score"]
        weight *= DECAY
    return scores


def _merged(similar: Mapping[str, float], stored: Iterable[str]) -> dict[str, float]:
    """Both orders in one; of equal ones what is similar comes first, and there what goes with the newer click."""
    by_similarity = sorted(similar, key=similar.__getitem__, reverse=True)
    scores: dict[str, float] = {}
    for order in (by_similarity, stored):
        for rank, item_id in enumerate(order, start=RANK_CONSTANT + 1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / rank
    return scores
