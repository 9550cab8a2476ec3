"""Frozen typed models, one section per job; see ``loading`` for where values come from."""

from __future__ import annotations

from recsys.config.loading import conf_dir, environments, load_config
from recsys.config.root import RecsysConfig
from recsys.config.sections import CutOffs

__all__ = ["CutOffs", "RecsysConfig", "conf_dir", "environments", "load_config"]
