"""What is true of the shop, whatever the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from recsys.config.base import Config
from recsys.contracts import EVENT_TYPES


class Signal(Config):
    """What one event type means."""

    weight: float = Field(1.0, ge=0)
    """Confidence of the interaction."""

    history: bool = True
    """Part of a user's history."""

    target: bool = False
    """What recommendations are meant to bring about, and what is measured."""

    seen_days: int = 0
    """For how many days after it the item counts as seen; 0 never. Matters where ``exclude_seen`` is on."""


DEFAULT_SIGNALS = {
    "view": Signal(weight=0.3),
    "cart": Signal(weight=0.6),
    "purchase": Signal(weight=1.0, target=True, seen_days=36500),
    "return": Signal(weight=0.0, history=False),
    "search": Signal(weight=0.0, history=False),
    "impression": Signal(weight=0.0, history=False),
    "click": Signal(weight=0.3),
}


def _over_default(name: str, given: Any) -> Any:
    if isinstance(given, Signal):
        given = given.model_dump(exclude_unset=True)
    if name not in DEFAULT_SIGNALS or not isinstance(given, Mapping):
        return given
    return {**DEFAULT_SIGNALS[name].model_dump(), **given}


class ShopConfig(Config):
    """What is true of the shop, whatever the job."""

    name: str = "demo"
    """Appears in logs, reports and releases."""

    time_zone: str = "UTC"
    """``event_date``, ``as_of`` and run dates are days in this zone; ``event_ts`` is UTC."""

    signals: dict[str, Signal] = DEFAULT_SIGNALS
    """Per event type; what is not named, type or key, keeps its default."""

    exclude_seen: bool = False
    """Leave seen items out of the lists. Off where people buy again."""

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(
                f"unknown time zone {zone!r}; use an IANA name such as 'Europe/London'"
            )
        return zone

    @field_validator("signals", mode="before")
    @classmethod
    def _the_rest_is_as_usual(cls, signals: Any) -> Any:
        """A signal that is named in part keeps the rest of its type's default, not of signals in general."""
        if not isinstance(signals, Mapping):
            return signals
        return {name: _over_default(name, given) for name, given in signals.items()}

    @field_validator("signals", mode="after")
    @classmethod
    def _signals_are_complete(cls, signals: dict[str, Signal]) -> dict[str, Signal]:
        unknown = sorted(set(signals) - set(EVENT_TYPES))
        if unknown:
            raise ValueError(f"unknown event types {unknown}; known: {', '.join(EVENT_TYPES)}")
        return {**DEFAULT_SIGNALS, **signals}

    @model_validator(mode="after")
    def _some_target(self) -> Self:
        if not self.event_types("target"):
            raise ValueError("signals: at least one event type must be a target")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def event_types(self, role: str) -> tuple[str, ...]:
        """The event types that play ``role``: history or target."""
        return tuple(name for name, signal in self.signals.items() if getattr(signal, role))
