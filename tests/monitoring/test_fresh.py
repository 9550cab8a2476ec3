"""Which users an audit scores anew: those of the full run, or those that score_changes made from events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.release.manifest import ReleaseInputs, ReleaseManifest, TableVersion
from tests.release.making import make_release
from tests.release.shop import RUN_DATE

if TYPE_CHECKING:
    from recsys.monitoring.fresh import ReleasedRules

FULL_RUN = "as the full run had them"


@pytest.fixture
def released(config: RecsysConfig) -> ReleaseManifest:
    """Published when ``events`` had version 9."""
    manifest = make_release(PathsConfig(root=config.paths.root))
    events = TableVersion(version=9, content_hash="h", rows=1)
    return manifest.model_copy(update={"tables": manifest.tables | {"events": events}})


def users_of(
    manifest: ReleaseManifest, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> object:
    """FULL_RUN, or the day and the events that users are made from."""
    from recsys.monitoring import fresh

    def full(*_: object, **__: object) -> object:
        return SimpleNamespace(join=lambda *_: FULL_RUN)

    def rebuilt(_: object, __: object, as_of: object, used: object, **___: object) -> object:
        return as_of, used

    monkeypatch.setattr(fresh, "users_to_score", full)
    monkeypatch.setattr(fresh, "rebuilt_users", rebuilt)
    monkeypatch.setattr(fresh, "F", SimpleNamespace(broadcast=lambda only: only))
    nothing = cast(Any, None)
    return fresh._users(nothing, config, manifest, released_with(hides_seen=False), nothing)


def released_with(*, hides_seen: bool) -> ReleasedRules:
    from recsys.monitoring.fresh import ReleasedRules
    from recsys.scoring.scorer import Rules

    return ReleasedRules({}, 0, Rules(hides_seen))


def test_an_increment_of_the_full_runs_own_day_is_made_from_the_events_it_used(
    released: ReleaseManifest, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.scoring.changes import Used

    inputs = ReleaseInputs(as_of=RUN_DATE, versions={}, events_version=7, is_increment=True)
    increment = released.model_copy(update={"inputs": inputs})
    assert users_of(increment, config, monkeypatch) == (RUN_DATE, Used(7, RUN_DATE))

    full = inputs.model_copy(update={"is_increment": False})
    assert users_of(released.model_copy(update={"inputs": full}), config, monkeypatch) == FULL_RUN


def test_an_older_release_is_known_by_its_day_and_by_the_events_of_its_publish(
    released: ReleaseManifest, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.scoring.changes import Used

    assert users_of(released, config, monkeypatch) == FULL_RUN
    day_before = RUN_DATE.replace(month=5)
    older = released.model_copy(
        update={"inputs": ReleaseInputs(as_of=day_before, versions={"histories": 1})}
    )
    assert users_of(older, config, monkeypatch) == (day_before, Used(9, RUN_DATE))


@pytest.mark.parametrize("is_increment", [False, True])
@pytest.mark.parametrize("hides_seen", [False, True])
def test_what_users_had_seen_is_asked_for_as_the_release_did_whatever_conf_says_now(
    released: ReleaseManifest,
    config: RecsysConfig,
    monkeypatch: pytest.MonkeyPatch,
    is_increment: bool,
    hides_seen: bool,
) -> None:
    from recsys.monitoring import fresh

    asked = []

    def full(*_: object, exclude_seen: bool, **__: object) -> object:
        asked.append(exclude_seen)
        return SimpleNamespace(join=lambda *_: FULL_RUN)

    def rebuilt(_: object, config: RecsysConfig, *__: object, **___: object) -> None:
        asked.append(config.shop.exclude_seen)

    monkeypatch.setattr(fresh, "users_to_score", full)
    monkeypatch.setattr(fresh, "rebuilt_users", rebuilt)
    monkeypatch.setattr(fresh, "F", SimpleNamespace(broadcast=lambda only: only))
    shop = config.shop.model_copy(update={"exclude_seen": not hides_seen})
    inputs = ReleaseInputs(as_of=RUN_DATE, versions={}, is_increment=is_increment)
    manifest, nothing = released.model_copy(update={"inputs": inputs}), cast(Any, None)
    rules = released_with(hides_seen=hides_seen)

    now = config.model_copy(update={"shop": shop})
    fresh._users(nothing, now, manifest, rules, nothing)

    assert asked == [hides_seen]
