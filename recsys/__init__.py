"""Nightly recommendations for a shop: one package per noun, data flows one way (docs/architecture.md)."""

from __future__ import annotations

__version__ = "0.1.0"
