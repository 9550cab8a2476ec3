"""The paths that answers lie at, and what stands before and after an id in one."""

from __future__ import annotations

USERS, OF_USER = "/v1/users/", "/recommendations"
ITEMS, OF_ITEM, AFTER_ITEM = "/v1/items/", "/similar", "/also-bought"
POPULAR = "/v1/popular"
SESSION = "/v1/recommendations"
BATCH = "/v1/recommendations:batch"
PATHS = (
    f"{USERS}{{user_id}}{OF_USER}", f"{ITEMS}{{item_id}}{OF_ITEM}", f"{ITEMS}{{item_id}}{AFTER_ITEM}",
    POPULAR, SESSION, BATCH,
)  # fmt: skip
"""As the OpenAPI document names them."""
