"""Many recommenders behind one interface: fitted as of a cut-off, asked for scores over the whole catalogue."""

from __future__ import annotations

from recsys.recommenders.interface import Recommender
from recsys.recommenders.shop import Histories, Shop, Users

__all__ = ["Histories", "Recommender", "Shop", "Users"]
