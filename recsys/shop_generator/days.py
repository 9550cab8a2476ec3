"""The events of one day: visits, each a row of views, some of which lead to a cart and to a purchase."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date

import numpy as np

from recsys.config.sections import GenerateShopConfig
from recsys.shop_generator.world import NUM_FAVOURITES, NUM_PREFERRED, Flags, Ints, World

VIEW, CART, PURCHASE, RETURN = range(4)
TYPE_NAMES = ("view", "cart", "purchase", "return")
_MEAN_FURTHER_VIEWS = 2.0
_OPENS, _CLOSES = 8 * 3600, 20 * 3600
_STEP_SECONDS = 13  # between the events of a visit
_MAX_LAG_DAYS = 14


@dataclass(frozen=True)
class Events:
    """Columns of equal length."""

    user: Ints
    item: Ints
    type: Ints
    second: Ints
    """Of the day, 0 to 86399."""
    visit: Ints
    """Number of the visit within its day; of a return, the negative number of the return, from -1."""
    quantity: Ints
    """0 where the event has none; of returns negative."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, places: Ints) -> Events:
        return Events(*[getattr(self, f.name)[places] for f in fields(self)])


def join(parts: list[Events]) -> Events:
    return Events(*[np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Events)])


@dataclass(frozen=True)
class Day:
    """One open day."""

    events: Events
    """By time."""
    repeats: int
    """Purchases of a favourite that began a visit."""
    preferred_views: int
    """Views of an item of one of the user's preferred groups."""
    coming_back: Events
    """Purchases that will be returned …"""
    lag_days: Ints
    """… this many days later, if the shop is open then; else when it opens next."""


def build_day(config: GenerateShopConfig, world: World, number: int, due: Events, day: date) -> Day:
    """Exactly ``world.events_per_day[number]`` events, the ``due`` returns among them."""
    rng = np.random.default_rng([config.seed, 1, number])
    wanted = int(world.events_per_day[number])
    if len(due) > wanted:
        raise ValueError(
            f"{day}: {len(due)} returns are due and only {wanted} events are to be made"
        )
    visits, is_repeat = _visits(config, world, rng, wanted - len(due))
    returns = Events(
        user=due.user,
        item=due.item,
        type=np.full(len(due), RETURN),
        second=rng.integers(_OPENS, _CLOSES, len(due)),
        visit=-1 - np.arange(len(due)),
        quantity=-due.quantity,
    )
    preferred = world.group_of_item[visits.item][:, None] == world.preferred[visits.user]
    bought = np.flatnonzero(visits.type == PURCHASE)
    back = bought[rng.random(len(bought)) < config.return_share]
    events = join([visits, returns])
    return Day(
        events=events.take(np.argsort(events.second, kind="stable")),
        repeats=int((is_repeat & (visits.type == PURCHASE)).sum()),
        preferred_views=int((preferred.any(axis=1) & (visits.type == VIEW)).sum()),
        coming_back=visits.take(back),
        lag_days=rng.integers(1, _MAX_LAG_DAYS + 1, len(back)),
    )


def _visits(
    config: GenerateShopConfig, world: World, rng: np.random.Generator, wanted: int
) -> tuple[Events, Flags]:
    """``wanted`` events, and which of them belong to the buying of a favourite."""
    per_view = 1 + config.cart_share * (1 + config.purchase_share)
    count = int(wanted / (per_view * (1 + _MEAN_FURTHER_VIEWS)) * 1.2) + 20
    user = np.minimum(
        np.searchsorted(world.activity, rng.random(count), side="right"), config.users - 1
    )
    begins_with_favourite = rng.random(count) < config.repeat_share
    views_of_visit = 1 + rng.poisson(_MEAN_FURTHER_VIEWS, count)
    visit = np.repeat(np.arange(count), views_of_visit)
    views = len(visit)
    is_first = np.concatenate([[True], visit[1:] != visit[:-1]])

    viewer = user[visit]
    preferred = world.preferred[viewer, rng.integers(NUM_PREFERRED, size=views)]
    anywhere = rng.integers(config.item_groups, size=views)
    group = np.where(rng.random(views) < config.preferred_share, preferred, anywhere)
    item = world.draw_items(group, rng.random(views))
    is_repeat = is_first & begins_with_favourite[visit]
    favourite = world.favourites[viewer, rng.integers(NUM_FAVOURITES, size=views)]
    item = np.where(is_repeat, favourite, item)

    to_cart = is_repeat | (rng.random(views) < config.cart_share)
    bought = is_repeat | (to_cart & (rng.random(views) < config.purchase_share))
    steps = 1 + to_cart.astype(np.int64) + bought
    view = np.repeat(np.arange(views), steps)
    if len(view) < wanted:
        raise ValueError(
            f"{len(view)} events were drawn and {wanted} are wanted"
        )  # 1.2 is far beyond chance
    type_ = np.arange(len(view)) - np.repeat(np.cumsum(steps) - steps, steps)
    view, type_ = view[:wanted], type_[:wanted]

    visit_of_event = visit[view]
    first_event = np.searchsorted(visit_of_event, visit_of_event)
    starts = rng.integers(_OPENS, _CLOSES, count)
    quantity = 1 + rng.poisson(0.5, wanted)
    return Events(
        user=viewer[view],
        item=item[view],
        type=type_,
        second=starts[visit_of_event] + _STEP_SECONDS * (np.arange(wanted) - first_event),
        visit=visit_of_event,
        quantity=np.where(type_ == PURCHASE, quantity, 0),
    ), is_repeat[view]


def no_events() -> Events:
    return Events(*[np.zeros(0, dtype=np.int64) for _ in fields(Events)])
