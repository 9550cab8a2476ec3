"""What a new recommender must reach to be published; each rule of ``recsys.evaluation.gate`` has its limit here."""

from __future__ import annotations

from pydantic import Field

from recsys.config.base import Config
from recsys.config.sections import Share


class GateConfig(Config):
    bootstrap: bool = False
    """Allow a first release, when there is no live one to compare with (--bootstrap)."""
    min_users: int = Field(100, ge=0)
    """Fewer measured users block."""
    min_ndcg_at_10: Share = 0.005
    min_coverage_at_10: Share = 0.01
    tolerance: Share = 0.0
    """How far below the best baseline or the live recipe NDCG@10 may be, as a share."""
    accept_live_stand_in: bool = True
    """Where the live recipe cannot be fitted again as it is, it is compared with today's model, or without stage 2, in
    its place, and the verdict says so. False: then the blend is refused."""
    slice_tolerance: Share = 0.1
    """How much a part of the users may lose against another recommender, as a share of the other's NDCG@10 there."""
    target_slice_tolerance: Share = 0.25
    """The same of a part of the targets, against the live recipe alone: a list has ten places, and what is better on
    the whole gives up something elsewhere."""
    slice_allowance: Share = 0.002
    """NDCG@10 that any part may lose: of next to nothing a share says nothing."""
    min_slice_users: int = Field(100, ge=1)
    """Smaller slices are not judged."""
    max_list_churn: Share = 0.9
    """Share of the first 10 that may change against the live recipe: lists that nobody knows again are looked at by
    a person first."""
    max_model_megabytes: float = Field(2000.0, gt=0)
    """Of the model's files, 1 MB = 10^6 bytes: every host that scores holds the item vectors."""
