"""Which items an answer holds, as bytes of the snapshot: sliced where all may be shown, sifted where it may not."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from recsys.release.snapshot import Kind
from recsys.release.stored_list import CATEGORY_PATH, WHOLE_SHOP, Bytes, first, fragments
from recsys.serving.current import Open
from recsys.serving.metrics import Metrics
from recsys.serving.request import Filters, NotFound

NO_FILTERS = Filters()
_SHOWN = 80
"""Characters of an unknown id that are repeated to the client."""


class Found(NamedTuple):
    """A list, where it came from, and why it is not the one asked for ('' where it is)."""

    source: str
    items: Bytes
    """JSON of the items, commas between, no brackets."""
    fallback: str = ""


class Answers:
    """Lists by user, item and segment. All of one is read from one ``Open``, before the next ``await``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def of_user(self, opened: Open, user_id: str, n: int, filters: Filters | None) -> Found:
        """The user's own list; the popular one where there is none, or nothing of it is left.

        Raises:
            NotFound: the release does not have the category asked for.
        """
        return self.of_value(opened, opened.store.get("users", user_id), n, filters)

    def of_value(self, opened: Open, value: Bytes | None, n: int, filters: Filters | None) -> Found:
        """``of_user`` where the stored list is at hand."""
        lookups = self._metrics.lookups["users"]
        if value is None:
            lookups["miss"] += 1
            return Found("popular", self._whole_shop(opened, n, filters), "unknown_user")
        lookups["hit"] += 1
        if filters is None and not opened.blocked:
            items = first(value, n)
        else:
            items = self._sifted(opened, value, n, filters, may_be_empty=True)
        if items:
            return Found("personal", items)
        return Found("popular", self._whole_shop(opened, n, filters), "nothing_left")

    def similar(self, opened: Open, item_id: str, n: int, filters: Filters | None) -> Found:
        """The shelf beside an item.

        Raises:
            NotFound: the release does not have the item, or the category.
        """
        return Found("similar", self._beside(opened, "items", item_id, n, filters))

    def also_bought(self, opened: Open, item_id: str, n: int, filters: Filters | None) -> Found:
        """What is taken up after an item. Raises as ``similar`` does."""
        return Found("also_bought", self._beside(opened, "also_bought", item_id, n, filters))

    def _beside(
        self, opened: Open, kind: Kind, item_id: str, n: int, filters: Filters | None
    ) -> Bytes:
        value = opened.store.get(kind, item_id)
        if value is None:
            self._metrics.lookups["items"]["miss"] += 1
            raise NotFound(
                f"unknown item {_short(item_id)}: not in the catalogue of release "
                f"{opened.store.release_id}"
            )
        self._metrics.lookups["items"]["hit"] += 1
        return self._listed(opened, value, n, filters)

    def popular(self, opened: Open, segment: str, n: int, filters: Filters | None) -> Found:
        """The popular list of a segment; of the whole shop for a segment we have none for.

        Raises:
            NotFound: the release does not have the category asked for.
        """
        value = opened.store.get("segments", segment)
        if value is None:
            unknown = "" if segment == WHOLE_SHOP else "unknown_segment"
            return Found("popular", self._whole_shop(opened, n, filters), unknown)
        return Found("popular", self._listed(opened, value, n, filters))

    def _whole_shop(self, opened: Open, n: int, filters: Filters | None) -> Bytes:
        value = opened.store.get("segments", WHOLE_SHOP)
        return b"" if value is None else self._listed(opened, value, n, filters)

    def _listed(self, opened: Open, value: Bytes, n: int, filters: Filters | None) -> Bytes:
        if filters is None and not opened.blocked:
            return first(value, n)
        return self._sifted(opened, value, n, filters)

    def _sifted(
        self,
        opened: Open,
        value: Bytes,
        n: int,
        filters: Filters | None,
        *,
        may_be_empty: bool = False,
    ) -> Bytes:
        """The first ``n`` items that may be shown; filled up from the category where one is asked for.

        With ``may_be_empty`` only a list that holds something is filled up: else the caller has a better one.
        """
        sieve = Sieve(opened, filters or NO_FILTERS)
        taken = sieve.pick(value, n)
        if sieve.popular is not None and (taken or not may_be_empty):
            taken += sieve.pick(sieve.popular, n - len(taken), of_category=True)
        if sieve.withheld:
            self._metrics.withheld.inc(sieve.withheld)
        return b",".join(taken)


class Sieve:
    """What one answer may show: nothing blocked or excluded, nothing twice, one category where asked for."""

    def __init__(self, opened: Open, filters: Filters) -> None:
        """Raises NotFound where the release does not have the category."""
        self._opened = opened
        self._category = filters.category
        self._passed_over = set(filters.exclude)
        self.withheld = 0
        """Blocked items that were passed over."""
        self.popular: Bytes | None = None
        """The category's popular items; None where no category is asked for."""
        if filters.category:
            self.popular = opened.store.get("categories", filters.category)
            if self.popular is None:
                known = opened.store.count("categories")
                where = "not in the catalogue of" if known else "the shop has no categories in"
                raise NotFound(
                    f"unknown category {_short(filters.category)}: {where} release {opened.store.release_id}"
                )

    def pick(self, value: Bytes, n: int, *, of_category: bool = False) -> list[Bytes]:
        """The first ``n`` items of a stored list that may be shown; ``of_category``: all of it is."""
        taken: list[Bytes] = []
        if n <= 0:
            return taken
        check_category = bool(self._category) and not of_category
        for fragment in fragments(value):
            item_id = orjson.loads(fragment)["item_id"]
            if item_id in self._passed_over or (
                check_category and not self._is_of_category(item_id)
            ):
                continue
            self._passed_over.add(item_id)
            if item_id in self._opened.blocked:
                self.withheld += 1
                continue
            taken.append(fragment)
            if len(taken) == n:
                break
        return taken

    def _is_of_category(self, item_id: str) -> bool:
        facts = self._opened.store.get("facts", item_id)
        category = "" if facts is None else orjson.loads(facts).get("category", "")
        return bool(
            category == self._category or category.startswith(self._category + CATEGORY_PATH)
        )


def _short(id_: str) -> str:
    return repr(id_[:_SHOWN]) + ("…" if len(id_) > _SHOWN else "")
