"""What stays the same in a generated shop: who likes what, what costs how much, when it is closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from recsys.config.sections import GenerateShopConfig

NUM_PREFERRED = 2
NUM_FAVOURITES = 3
SEGMENTS = ("north", "south", "east", "west")
_SEGMENT_SHARES = (0.5, 0.25, 0.15, 0.1)
_WEEKDAY_TRADE = np.array([1.0, 0.95, 1.0, 1.05, 1.2, 1.4, 1.1])

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """The planted answers. Users, items and groups are numbered from 0."""

    group_of_item: Ints
    """Ascending: the items of a group are neighbours."""
    group_start: Ints
    """First item of each group, then the number of items."""
    popularity: Floats
    """Cumulated weight of the items, 0 first: Zipf within each group."""
    price_pence: Ints
    in_stock: Flags
    segment_of_user: Ints
    activity: Floats
    """Cumulated share of the visits, 1 last."""
    preferred: Ints
    """(users, NUM_PREFERRED) groups that a user's views go to."""
    favourites: Ints
    """(users, NUM_FAVOURITES) items of the first preferred group that a user buys again and again."""
    events_per_day: Ints
    """0 on closed days; adds up to the events asked for."""

    def draw_items(self, groups: Ints, uniform: Floats) -> Ints:
        """An item of each of ``groups``, by popularity."""
        low = self.popularity[self.group_start[groups]]
        high = self.popularity[self.group_start[groups + 1]]
        found = np.searchsorted(self.popularity, low + uniform * (high - low), side="right") - 1
        clipped: Ints = np.clip(found, self.group_start[groups], self.group_start[groups + 1] - 1)
        return clipped


def build_world(config: GenerateShopConfig) -> World:
    """Draw the world from ``config.seed``."""
    rng = np.random.default_rng([config.seed, 0])
    group_of_item = np.arange(config.items) * config.item_groups // config.items
    group_start = np.searchsorted(group_of_item, np.arange(config.item_groups + 1))
    place_in_group = np.arange(config.items) - group_start[group_of_item]
    popularity = np.concatenate([[0.0], np.cumsum(1.0 / (1.0 + place_in_group))])
    activity = np.cumsum(rng.lognormal(0.0, 1.0, config.users))
    preferred = rng.integers(config.item_groups, size=(config.users, NUM_PREFERRED))
    world = World(
        group_of_item=group_of_item,
        group_start=group_start,
        popularity=popularity,
        price_pence=np.maximum(50, (rng.lognormal(6.5, 0.8, config.items)).astype(np.int64)),
        in_stock=rng.random(config.items) >= config.out_of_stock_share,
        segment_of_user=rng.choice(len(SEGMENTS), size=config.users, p=_SEGMENT_SHARES),
        activity=activity / activity[-1],
        preferred=preferred,
        favourites=np.zeros((config.users, NUM_FAVOURITES), dtype=np.int64),
        events_per_day=_events_per_day(config, rng),
    )
    first = np.repeat(preferred[:, 0], NUM_FAVOURITES)
    drawn = world.draw_items(first, rng.random(len(first)))
    world.favourites[:] = drawn.reshape(config.users, NUM_FAVOURITES)
    return world


def days_of(config: GenerateShopConfig) -> list[date]:
    return [config.first_day + timedelta(days=n) for n in range(config.days)]


def is_open(config: GenerateShopConfig, day: date) -> bool:
    return day.weekday() not in config.closed_weekdays


def _events_per_day(config: GenerateShopConfig, rng: np.random.Generator) -> Ints:
    days = days_of(config)
    trade = np.array([_WEEKDAY_TRADE[day.weekday()] * is_open(config, day) for day in days])
    trade *= rng.uniform(0.95, 1.05, len(days))
    exact = np.cumsum(trade) / trade.sum() * config.events
    return np.diff(np.concatenate([[0], np.rint(exact).astype(np.int64)]))
