"""Recommenders by name, and a user's own by a dotted path."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from recsys.errors import ConfigError
from recsys.recommenders.interface import Recommender

SHIPPED: dict[str, str] = {
    "popularity": "recsys.recommenders.popularity:Popularity",
    "popularity_by_segment": "recsys.recommenders.popularity:SegmentPopularity",
    "trending": "recsys.recommenders.popularity:Trending",
    "last_purchases": "recsys.recommenders.last_purchases:LastPurchases",
    "repeat_purchase": "recsys.recommenders.repeat_purchase:RepeatPurchase",
    "transitions": "recsys.recommenders.transitions:Transitions",
    "item_item": "recsys.recommenders.item_item:ItemItem",
    "item_item_classic": "recsys.recommenders.item_item:ClassicItemItem",
    "user_user": "recsys.recommenders.user_user:UserUser",
    "linear_items": "recsys.recommenders.linear_items:LinearItems",
    "factorisation": "recsys.recommenders.factorisation:Factorisation",
    "non_negative": "recsys.recommenders.non_negative:NonNegative",
    "content": "recsys.recommenders.content:Content",
    "recurrent": "recsys.recommenders.recurrent:Recurrent",
    "transformer": "recsys.recommenders.transformer:Transformer",
    "blend": "recsys.recommenders.blend:Blend",
}
"""Name -> ``module:Class``; a class is imported when it is asked for, so that one is had without what others need."""

WANTED = ("name", "about", "fit", "scores", "save", "load")


def recommender(name_or_path: str) -> Recommender:
    """An unfitted one with its defaults: a shipped name, or ``my_shop.models:TwoTower``.

    Raises:
        ConfigError: no such name, module or class, or the class is no recommender; the message says what is missing.
    """
    found = recommender_class(SHIPPED.get(name_or_path, name_or_path))
    try:
        made = found()
    except TypeError as error:
        raise ConfigError(
            f"{name_or_path} cannot be made without arguments ({error}): give each of its settings a default"
        ) from None
    if not isinstance(made, Recommender):
        raise ConfigError(f"{name_or_path} makes a {type(made).__name__}, which is no recommender")
    return made


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Each once, in this order.

    Raises:
        ConfigError: as ``recommender``.
    """
    for name in names:
        recommender(name)
    return tuple(dict.fromkeys(names))


def about() -> list[str]:
    """A line per shipped recommender."""
    width = max(map(len, SHIPPED))
    return [f"{name:{width}}  {recommender_class(path).about}" for name, path in SHIPPED.items()]


def recommender_class(path: str) -> type[Recommender]:
    """The class at ``module:Class``.

    Raises:
        ConfigError: no such module or class, or the class is no recommender; the message says what is missing.
    """
    module_name, colon, class_name = path.partition(":")
    if not (colon and module_name and class_name):
        raise ConfigError(
            f"no recommender is called {path!r}; there are {', '.join(SHIPPED)}, or a class of yours as "
            "my_shop.models:TwoTower"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{path}: {error}; is the module's folder on PYTHONPATH, and is all that it imports installed?"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{path}: {module_name} has no class {class_name}")
    if missing := [attribute for attribute in WANTED if not hasattr(found, attribute)]:
        raise ConfigError(
            f"{path} is no recommender: it has no {', '.join(missing)} (see recsys/recommenders/interface.py)"
        )
    return found
