"""What a release keeps: the versions and days that it names, and those that it was computed from."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.records import write_atomically
from recsys.release.manifest import ReleaseInputs
from recsys.release.pointer import release_folder
from recsys.release.snapshot import MANIFEST_FILE
from recsys.retention.holds import holds
from tests.release.making import make_release

RUN_DATE = date(2024, 6, 1)
FULL = RUN_DATE - timedelta(days=4)


def test_what_a_release_was_computed_from_stays_as_long_as_the_release(tmp_path: Path) -> None:
    config = RecsysConfig(paths=PathsConfig(root=str(tmp_path)))
    made = make_release(config.paths, RUN_DATE)
    inputs = ReleaseInputs(
        as_of=FULL,
        versions={"histories": 7, "top_n_lists": 5, "events": 3},
        events_version=8,
        is_increment=True,
    )
    rested = made.model_copy(update={"inputs": inputs})
    folder = release_folder(config.paths, made.release_id)
    write_atomically(folder / MANIFEST_FILE, rested.to_json().encode())

    found = holds(config, RUN_DATE)

    assert found.versions("histories") == {7: made.release_id}
    assert found.versions("top_n_lists") == {5: made.release_id, 1: made.release_id}
    # The full run's events, and those that the lists, made since, rest on.
    assert set(found.versions("events")) == {3, 8}
    assert {RUN_DATE, FULL} <= found.days
