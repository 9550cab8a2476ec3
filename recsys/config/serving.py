"""The lookup service and the hosts that pull: section ``serving``."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from recsys.config.base import Config

BLOCKED_WITHIN_SECONDS = 10.0
"""Promised of `recsys block-item`: so long after it no host shows the item any more."""
POLLS_SECONDS = 8.0
"""Of these two polls may take so much; the rest is for reading the list at the URL and on the host's own disk."""


class ServingConfig(Config):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    workers: int = Field(1, ge=1)
    poll_seconds: float = Field(0.5, gt=0)
    """How often the pointer is looked at."""
    blocked_poll_seconds: float = Field(2.0, gt=0)
    """How often blocked.json is looked at; with pull_seconds at most 8 of the 10 s in which an item must be off."""
    default_n: int = Field(10, ge=1)
    batch_limit: int = Field(1000, ge=1)
    """Users of one batch."""
    api_key: SecretStr = SecretStr("")
    """Asked of every request as ``Authorization: Bearer KEY``, /healthz and /readyz excepted; empty: of none."""
    max_in_flight: int = Field(64, ge=1)
    """Requests that one worker works on at a time; what comes on top is told to come back later (503)."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """A larger request body is refused (413). A batch of ``batch_limit`` ids of 64 characters is 67 KB."""
    request_timeout_seconds: float = Field(5.0, gt=0)
    """For the whole body to arrive, and for a client to take the next 64 KB of a large answer."""
    drain_seconds: int = Field(10, ge=1)
    """How long a service that was told to end goes on with what it has begun."""
    access_log: bool = False
    """A line for each request, users as keyed hashes."""
    access_log_key: SecretStr = SecretStr("")
    """Of those hashes. Empty: each worker draws its own, and nobody can tell who was meant."""
    page: bool = False
    """The page for people at /: what a customer bought and is offered."""
    pull_from: str = ""
    """The URL that this host pulls releases from, while it serves or by `recsys pull`; empty: none."""
    pull_seconds: float = Field(5.0, gt=0)
    """How often that URL is looked at; with blocked_poll_seconds at most 8 of the 10 s in which an item must be off."""

    @field_validator("api_key")
    @classmethod
    def _hard_to_guess(cls, key: SecretStr) -> SecretStr:
        """It goes into a header as it is, and must not be found by trying."""
        text = key.get_secret_value()
        if text and not re.fullmatch(r"[!-~]{16,}", text):
            raise ValueError(
                "must be 16 or more ASCII characters without spaces (openssl rand -hex 16), or empty"
            )
        return key

    @model_validator(mode="after")
    def _blocked_in_time(self) -> Self:
        """Also where ``pull_from`` is empty: `recsys pull` may follow beside the service, by ``--from``."""
        slowest = self.pull_seconds + self.blocked_poll_seconds
        if slowest > POLLS_SECONDS:
            raise ValueError(
                f"pull_seconds={self.pull_seconds:g} and blocked_poll_seconds={self.blocked_poll_seconds:g} add up to "
                f"{slowest:g} s; together they may be at most {POLLS_SECONDS:g}, for a host must not show an item "
                f"{BLOCKED_WITHIN_SECONDS:g} s after it was blocked, and has to read that, too: lower one of them"
            )
        return self
