"""Where the lake's failpoint was before training processes, which load no Spark, wanted it too."""

from __future__ import annotations

from recsys.failpoints import failpoint

__all__ = ["failpoint"]
