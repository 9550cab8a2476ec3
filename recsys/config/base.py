"""The parent of every section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen, refuses unknown keys; field docstrings say what each decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
