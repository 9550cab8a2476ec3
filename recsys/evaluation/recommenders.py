"""Who is measured: the model, the blend, the baselines, the ablations; each a recipe."""

from __future__ import annotations

from recsys.records import Recipe

FILL = 0.01
"""A little popularity: places that a baseline has nothing for go to best sellers, not to small numbers."""

MODEL = Recipe(name="model", model=1.0)
POPULARITY = Recipe(name="popularity", popularity=1.0)
TRANSITIONS = Recipe(name="transitions", transitions=1.0, decay=0.0, popularity=FILL)
"""First order: what follows the last item alone."""
ITEM_ITEM = Recipe(name="item_item", similarity=0.4, transitions=0.6, decay=0.7, popularity=FILL)
"""A strong item-item blend: cosine and transitions, mixed 0.4 to 0.6, decayed by recency."""
LAST_PURCHASES = Recipe(
    name="last_purchases", repeat=1.0, decay=0.9, popularity=FILL, targets_only=True
)
"""A user's own last purchases; its decay is chosen on the choosing window like the blend's weights."""
REPEAT_PURCHASE = Recipe(name="repeat_purchase", due=1.0, popularity=FILL)
"""What a user is due to take again, by each item's re-order intervals."""

BASELINES = ("popularity", "last_purchases", "repeat_purchase", "transitions", "item_item")
"""What a recommender must not be below."""

BLEND = "blend"
RERANKED = "blend_reranked"
"""The best blend with stage 2, where the blend that was chosen does without."""
WITHOUT_RANKING = "blend_without_ranking"
"""Stage 1 of the blend alone, where the blend that was chosen re-ranks."""
LIVE = "live"
"""The live release's recipe, fitted at the same cut-off."""


def recommenders(
    blend: Recipe, last_purchases: Recipe, other: Recipe | None = None
) -> tuple[Recipe, ...]:
    """Everyone who is measured, the blend first; ablations keep the other weights as they are.

    ``other`` is the blend with stage 2 where ``blend`` has none, or without where it has.
    """
    others = () if other is None else (other.model_copy(update={"name": name_of_other(other)}),)
    return (
        blend.model_copy(update={"name": BLEND}),
        MODEL,
        ITEM_ITEM,
        last_purchases,
        REPEAT_PURCHASE,
        TRANSITIONS,
        POPULARITY,
        blend.model_copy(update={"name": "blend_without_model", "model": 0.0}),
        blend.model_copy(
            update={"name": "blend_without_item_item", "similarity": 0.0, "transitions": 0.0}
        ),
        blend.model_copy(update={"name": "blend_without_repeat", "repeat": 0.0, "due": 0.0}),
        *others,
    )


def name_of_other(other: Recipe) -> str:
    return RERANKED if other.re_ranks else WITHOUT_RANKING
