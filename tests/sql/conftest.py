"""The scored shop of tests/release, for questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from tests.release.shop import write_shop


@pytest.fixture(scope="session")
def asked_shop(tmp_path_factory: pytest.TempPathFactory) -> PathsConfig:
    """A shop that no test changes."""
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("asked")))
    write_shop(Path(paths.lake_uri))
    return paths
