"""A synthetic shop of any size with planted structure and known answers."""

from __future__ import annotations

from recsys.shop_generator.files import Planted, generate_shop

__all__ = ["Planted", "generate_shop"]
