"""Which release is served while releases come, are damaged, and go."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import pytest

from recsys.blocked import block_item, unblock_item
from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact, MissingInput
from recsys.serving import current as module
from recsys.serving.current import Current
from recsys.serving.metrics import Metrics
from recsys.serving.store import PublishedReleases
from tests.release.making import make_release
from tests.serving.stores import NEWER, NOON, RELEASE, MemoryReleases, MemoryStore


@pytest.fixture
def releases() -> MemoryReleases:
    return MemoryReleases(MemoryStore(RELEASE), MemoryStore(NEWER))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def current(releases: MemoryReleases, metrics: Metrics) -> Current:
    current = Current(releases, metrics)
    current.start()
    return current


def look(current: Current) -> str:
    asyncio.run(current.look())
    return current.open.store.release_id


def test_a_new_release_is_swapped_in_and_the_old_one_closed(
    current: Current, releases: MemoryReleases, metrics: Metrics
) -> None:
    assert look(current) == RELEASE
    releases.publish(NEWER)
    assert look(current) == NEWER
    assert (releases.stores[RELEASE].closed, releases.stores[NEWER].closed) == (True, False)
    assert current.open.prefix == b'{"release":"2024-06-02-bbbb","request_id":"'
    text = metrics.text().decode()
    assert 'recsys_release{release="2024-06-02-bbbb"} 1.0' in text
    assert RELEASE not in text
    assert "recsys_release_swaps_total 1.0" in text
    assert releases.opened == [RELEASE, NEWER]  # nothing is opened while nothing changes


def test_a_roll_back_does_not_wait_for_an_idle_moment(
    current: Current, releases: MemoryReleases
) -> None:
    releases.publish(NEWER)
    assert look(current) == NEWER
    releases.publish(RELEASE, pinned=True)
    assert look(current) == RELEASE
    assert releases.urgent == [False, True]


def test_a_release_that_is_rolled_back_while_it_is_checked_never_goes_live(
    current: Current, releases: MemoryReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[str] = []

    async def busy(release_id: str, *, urgent: bool) -> MemoryStore:
        """The check of a host that has no time for it; meanwhile somebody rolls back."""
        if urgent:
            return releases.open(release_id)
        releases.publish(RELEASE, pinned=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(release_id)
            raise
        raise AssertionError

    monkeypatch.setattr(releases, "open_aside", busy)
    releases.publish(NEWER)
    assert look(current) == RELEASE
    assert (given_up, releases.opened, current.problem) == ([NEWER], [RELEASE], "")


def test_a_release_that_is_rolled_back_as_its_check_ends_is_closed_again(
    current: Current, releases: MemoryReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(release_id: str, *, urgent: bool) -> MemoryStore:
        releases.publish(RELEASE, pinned=True)
        return releases.open(release_id)

    monkeypatch.setattr(releases, "open_aside", late)
    releases.publish(NEWER)
    assert look(current) == RELEASE
    assert releases.stores[NEWER].closed and not releases.stores[RELEASE].closed


@pytest.mark.parametrize("afterwards", ["moved back", "unreadable"])
def test_a_pointer_that_changes_twice_while_a_check_is_given_up_is_looked_at_again(
    current: Current,
    releases: MemoryReleases,
    monkeypatch: pytest.MonkeyPatch,
    afterwards: str,
) -> None:
    releases.publish(NEWER)
    named, live, at_once = releases.pointer, releases.live, releases.open_aside

    def unreadable() -> None:
        raise CorruptArtifact("the pointer is unreadable")

    async def busy(release_id: str, *, urgent: bool) -> MemoryStore:
        monkeypatch.setattr(releases, "open_aside", at_once)  # the next check has its turn
        releases.publish(RELEASE, pinned=True)
        try:
            await asyncio.Event().wait()
        finally:
            releases.pointer = named
            if afterwards == "unreadable":
                monkeypatch.setattr(releases, "live", unreadable)
        raise AssertionError

    monkeypatch.setattr(module, "GLANCE_SECONDS", 0)
    monkeypatch.setattr(releases, "open_aside", busy)
    if afterwards == "unreadable":
        assert look(current) == RELEASE
        assert current.problem == "the pointer is unreadable"
        monkeypatch.setattr(releases, "live", live)
    assert look(current) == NEWER
    assert (current.problem, releases.opened) == ("", [RELEASE, NEWER])


def test_a_damaged_release_is_refused_and_the_old_one_stays(
    current: Current, releases: MemoryReleases, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.damaged.add(NEWER)
    releases.publish(NEWER)
    assert look(current) == RELEASE
    assert current.problem == f"checksum of {NEWER} is off"
    assert "recsys_degraded 1.0" in metrics.text().decode()
    look(current)
    assert releases.opened.count(NEWER) == 1  # not hashed again at every poll
    releases.damaged.clear()
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    assert look(current) == NEWER
    assert current.problem == ""
    assert "recsys_degraded 0.0" in metrics.text().decode()


def test_a_check_that_was_killed_keeps_the_old_release_and_is_tried_again(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = PathsConfig(root=str(tmp_path))
    first = make_release(paths, date(2024, 6, 1)).release_id
    current = Current(PublishedReleases(paths), metrics)
    current.start()
    second = make_release(paths, date(2024, 6, 2)).release_id
    monkeypatch.setenv("RECSYS_FAILPOINT", "check:after-checksums")
    assert look(current) == first
    assert f"check of release {second} was ended by signal 9" in current.problem
    assert current.open.store.get("users", "ana")  # it is open still
    assert "recsys_degraded 1.0" in metrics.text().decode()
    monkeypatch.delenv("RECSYS_FAILPOINT")
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    assert look(current) == second
    assert current.problem == ""
    current.close()


def test_going_back_from_a_damaged_release_ends_the_degradation(
    current: Current, releases: MemoryReleases
) -> None:
    releases.damaged.add(NEWER)
    releases.publish(NEWER)
    look(current)
    releases.publish(RELEASE)
    assert look(current) == RELEASE
    assert (current.problem, releases.stores[RELEASE].closed) == ("", False)


def test_a_pointer_that_is_gone_or_unreadable_changes_nothing(
    current: Current, releases: MemoryReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.pointer = None
    assert look(current) == RELEASE
    assert current.problem == "no release is live"

    def unreadable() -> None:
        raise CorruptArtifact("the pointer is unreadable")

    monkeypatch.setattr(releases, "live", unreadable)
    assert look(current) == RELEASE
    assert current.problem == "the pointer is unreadable"


def test_the_watch_survives_what_nobody_thought_of(
    current: Current, releases: MemoryReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    def broken() -> None:
        nonlocal looked
        looked += 1
        raise RuntimeError("the disk is on fire")

    async def watch_twice() -> None:
        task = asyncio.create_task(current.watch(0, current.look))
        while looked < 2:
            await asyncio.sleep(0)
        task.cancel()

    monkeypatch.setattr(releases, "live", broken)
    asyncio.run(watch_twice())
    assert current.problem == "cannot look for a new release: RuntimeError: the disk is on fire"


def test_blocked_items_are_taken_over_and_outlive_a_swap(
    current: Current, releases: MemoryReleases, metrics: Metrics
) -> None:
    tags = [current.open.etag]
    releases.block("tea", "cup")
    asyncio.run(current.look_at_blocked())
    tags.append(current.open.etag)
    assert current.open.blocked == {"tea", "cup"}
    assert "recsys_blocked_items 2.0" in metrics.text().decode()
    releases.publish(NEWER)
    assert look(current) == NEWER
    assert current.open.blocked == {"tea", "cup"}
    tags.append(current.open.etag)
    releases.block()
    asyncio.run(current.look_at_blocked())
    assert current.open.blocked == frozenset()
    tags.append(current.open.etag)
    assert len(set(tags)) == 4, "a kept answer is asked about again whenever it may have changed"


def test_where_blocked_items_cannot_be_read_those_known_stay_off(
    current: Current, releases: MemoryReleases, metrics: Metrics
) -> None:
    releases.block("tea")
    asyncio.run(current.look_at_blocked())
    releases.off = CorruptArtifact("blocked.json is unreadable")
    asyncio.run(current.look_at_blocked())
    assert current.open.blocked == {"tea"}
    assert look(current) == RELEASE  # all is well with the release; the problem stays
    assert current.problem == "blocked.json is unreadable"
    assert "recsys_degraded 1.0" in metrics.text().decode()
    releases.block()
    asyncio.run(current.look_at_blocked())
    assert (current.problem, current.open.blocked) == ("", frozenset())
    assert "recsys_degraded 0.0" in metrics.text().decode()


def test_a_service_that_starts_with_the_copy_alone_hides_what_it_names_and_is_degraded(
    metrics: Metrics,
) -> None:
    releases = MemoryReleases(MemoryStore())
    releases.block("tea", problem="blocked.json is unreadable")
    current = Current(releases, metrics)
    current.start()
    assert (set(current.open.blocked), current.problem) == ({"tea"}, "blocked.json is unreadable")
    assert "recsys_blocked_items 1.0" in metrics.text().decode()
    assert "recsys_degraded 1.0" in metrics.text().decode()


def test_an_older_copy_puts_nothing_back_that_is_known_to_be_off(
    current: Current, releases: MemoryReleases
) -> None:
    releases.block("tea", "cup")
    asyncio.run(current.look_at_blocked())
    releases.block("tea", "pot", problem="blocked.json is unreadable")
    asyncio.run(current.look_at_blocked())
    assert current.open.blocked == {"tea", "cup", "pot"}
    releases.block("tea")
    asyncio.run(current.look_at_blocked())
    assert (set(current.open.blocked), current.problem) == ({"tea"}, "")


def test_a_disk_that_goes_away_puts_nothing_back_on_sale(tmp_path: Path, metrics: Metrics) -> None:
    paths = PathsConfig(root=str(tmp_path))
    make_release(paths, date(2024, 6, 1))
    block_item(paths, "tea", reason="recalled", now=NOON)
    current = Current(PublishedReleases(paths), metrics)
    current.start()
    away = paths.releases.rename(tmp_path / "away")
    for back_and_empty in (False, True):
        if back_and_empty:
            paths.releases.mkdir()
        asyncio.run(current.look_at_blocked())
        assert current.open.blocked == {"tea"}
        assert "blocked.json is gone, and so is its copy" in current.problem
    paths.releases.rmdir()
    away.rename(paths.releases)
    asyncio.run(current.look_at_blocked())
    assert (set(current.open.blocked), current.problem) == ({"tea"}, "")
    unblock_item(paths, "tea")
    asyncio.run(current.look_at_blocked())
    assert (current.open.blocked, current.problem) == (frozenset(), "")
    current.close()


def test_a_service_knows_what_is_blocked_before_its_first_answer(metrics: Metrics) -> None:
    releases = MemoryReleases(MemoryStore())
    releases.block("tea")
    current = Current(releases, metrics)
    current.start()
    assert current.open.blocked == {"tea"}


def test_at_start_a_damaged_live_release_falls_back_to_the_previous_one(
    releases: MemoryReleases, metrics: Metrics
) -> None:
    releases.publish(NEWER)
    releases.damaged.add(NEWER)
    current = Current(releases, metrics)
    current.start()
    assert current.open.store.release_id == RELEASE
    assert current.problem == f"checksum of {NEWER} is off"


def test_there_is_no_start_without_a_release_that_can_be_opened(metrics: Metrics) -> None:
    with pytest.raises(MissingInput):
        Current(MemoryReleases(), metrics).start()
    releases = MemoryReleases(MemoryStore(RELEASE))
    releases.damaged.add(RELEASE)
    with pytest.raises(CorruptArtifact):
        Current(releases, metrics).start()
