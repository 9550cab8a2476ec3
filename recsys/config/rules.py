"""What lists may hold, whatever the model says: the section ``rules``.

Masks take items out of the catalogue before anything is ranked (stage 1), list rules look at a list as it fills
(stage 3). docs/rules.md has examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recsys.config.base import Config

Names = tuple[Annotated[str, Field(min_length=1)], ...]
Amount = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=4)]
Group = Literal["category", "brand"]

BLOCKED, BLOCKED_NOW, OUT_OF_STOCK, MIN_PRICE = (
    "blocked", "blocked_now", "out_of_stock", "min_price",
)  # fmt: skip
SEEN, RETURNED = "seen", "returned"
MAX_PER = "max_per_"
"""Before the name of the group."""

OWN_NAMES = {BLOCKED, BLOCKED_NOW, OUT_OF_STOCK, MIN_PRICE, SEEN, RETURNED}


class Items(Config):
    """The items that fulfil every key that is given. Of a key with several values one has to be true."""

    item_ids: Names = ()
    categories: Names = ()
    """With all below them: Home is Home and Home > Cups."""
    brands: Names = ()
    attributes: dict[str, Names] = {}
    """Keys of the items' attributes, and the values that count."""
    price_below: Amount | None = None
    """Items without a price fulfil neither of the two."""
    price_from: Amount | None = None

    @field_validator("attributes", mode="before")
    @classmethod
    def _values_are_text(cls, attributes: Any) -> Any:
        """YAML reads yes as true and 007 as 7, which no attribute equals."""
        if isinstance(attributes, Mapping):
            for key, values in attributes.items():
                for value in values if isinstance(values, list | tuple) else ():
                    if not isinstance(value, str):
                        raise ValueError(
                            f"{key}: {value!r} is no text; write it in quotes, as the shop spells it"
                        )
        return attributes

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError(
                f"names no items; give at least one of {', '.join(Items.model_fields)}"
            )
        if empty := [key for key, values in self.attributes.items() if not values]:
            raise ValueError(
                f"attributes.{empty[0]}: no value is given, so no item would fulfil it"
            )
        return self


class CatalogueRule(Config):
    """What some users, or all, are never shown."""

    segments: Names = ()
    """Users of these segments alone; everybody where none is named."""
    hide: Items | None = None
    """These items are left out …"""
    only: Items | None = None
    """… or all but these."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.hide is None) == (self.only is None):
            raise ValueError("give either hide or only")
        return self


class RulesConfig(Config):
    """What lists may hold; the table ``rules`` says what each rule took."""

    blocked_items: Names = ()
    """Never shown. What must go before the next release: recsys block-item."""
    out_of_stock: bool = True
    """Leave out items whose stock is 0; a stock that is not tracked is no 0."""
    min_price: Amount = Decimal(0)
    """Items that are known to cost less are left out; 0: none."""
    catalogue: dict[str, CatalogueRule] = {}
    """Rules by name, for items by id, category, brand, price or attribute, for all users or those of a segment."""
    returned_days: int = Field(0, ge=0)
    """An item that a user returned in so many days before the run date is not offered to them; 0: it is."""
    max_per: dict[Group, Annotated[int, Field(ge=0)]] = {}
    """At most so many items of one category, or brand, in a list; 0: no limit. Items without one are not limited."""

    @field_validator("catalogue")
    @classmethod
    def _names_are_free(cls, catalogue: dict[str, CatalogueRule]) -> dict[str, CatalogueRule]:
        for name in catalogue:
            if name in OWN_NAMES or name.startswith(MAX_PER) or not name.strip():
                raise ValueError(f"{name!r} names another rule; choose another name")
        return catalogue

    @property
    def limits(self) -> tuple[tuple[str, int], ...]:
        """The list rules in force: group and limit. Of an item that both keep out, category's counts."""
        order: tuple[Group, ...] = ("category", "brand")
        return tuple((name, self.max_per[name]) for name in order if self.max_per.get(name, 0))

    @property
    def segments(self) -> tuple[str, ...]:
        """Segments that some rule names, ascending."""
        return tuple(sorted({s for rule in self.catalogue.values() for s in rule.segments}))
