"""The scored shop of tests/release, for questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.blocked import block_item
from recsys.config.places import PathsConfig
from tests.release.making import NOON
from tests.release.shop import LISTS, Lists, write_lists, write_scoring_record, write_shop

NIGHT_BEFORE: Lists = {
    "ana": (["cup", "tea"], [2.0, 1.0], ["model", "model"]),
    "zoe": (["pot"], [1.0], ["popular"]),  # gone the day after
}
"""Lists that a question about today must not count."""


@pytest.fixture(scope="session")
def asked_shop(tmp_path_factory: pytest.TempPathFactory) -> PathsConfig:
    """A shop that no test changes."""
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("asked")))
    write_shop(Path(paths.lake_uri))
    write_lists(Path(paths.lake_uri), LISTS, NIGHT_BEFORE)
    write_scoring_record(paths)
    block_item(paths, "pot", reason="glass in it", now=NOON)
    return paths
