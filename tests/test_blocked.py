"""blocked.json: what the person on call took off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from recsys.blocked import (
    BLOCKED_FILE,
    Blocked,
    Known,
    block_item,
    blocked_items,
    blocked_json,
    blocked_path,
    copy_path,
    keep_copy,
    known_blocked,
    parse_blocked,
    read_blocked,
    replace_by_pulled,
    unblock_item,
)
from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, CorruptArtifact
from recsys.release.pull_state import PullState, write_pull_state

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(root=str(tmp_path))


def test_items_are_blocked_one_by_one_and_let_go_again(paths: PathsConfig) -> None:
    assert known_blocked(paths) == Known({}, exists=False)
    block_item(paths, "tea", reason="recalled", now=NOON)
    both = block_item(paths, "a/b ☕", reason="", now=NOON)
    assert both == read_blocked(blocked_path(paths))
    assert both["tea"] == Blocked(reason="recalled", at=NOON)
    block_item(paths, "tea", reason="mould", now=NOON)
    assert read_blocked(blocked_path(paths))["tea"].reason == "mould"
    assert set(unblock_item(paths, "tea")) == {"a/b ☕"}
    assert set(read_blocked(blocked_path(paths))) == {"a/b ☕"}


def test_what_is_not_blocked_cannot_be_let_go(paths: PathsConfig) -> None:
    block_item(paths, "tea", reason="", now=NOON)
    with pytest.raises(ConfigError, match=r"item 'cup' is not blocked; blocked are: 'tea'"):
        unblock_item(paths, "cup")
    for no_id in ("", "\udcff"):
        with pytest.raises(ConfigError, match="is no item's id"):
            block_item(paths, no_id, reason="", now=NOON)


def damage(path: Path, content: str | None) -> None:
    """Removes it where ``content`` is None; '/' puts a folder in its place, '->' what the disk cannot even look up."""
    path.unlink(missing_ok=True)
    if content == "/":
        path.mkdir()
    elif content == "->":
        path.symlink_to("x" * 300)
    elif content is not None:
        path.write_text(content)


DAMAGED = ["", "{", "[]", '{"items": {"tea": {"why": "x"}}}']


@pytest.mark.parametrize("content", [*DAMAGED, None, "/", "->"])
def test_where_the_file_cannot_be_read_its_copy_holds(
    paths: PathsConfig, content: str | None
) -> None:
    block_item(paths, "tea", reason="recalled", now=NOON)
    damage(blocked_path(paths), content)
    known = known_blocked(paths)
    assert known.items == {"tea": Blocked(reason="recalled", at=NOON)}
    assert "blocked.json is unreadable (" in known.problem
    assert "the 1 items of its copy blocked.copy.json are off" in known.problem
    with capture_logs() as said:
        assert set(blocked_items(paths)) == {"tea"}
    assert [(one["event"], one["log_level"]) for one in said] == [
        ("blocked_items_of_the_copy", "warning")
    ]


@pytest.mark.parametrize("content", [*DAMAGED, None])
def test_the_next_change_mends_a_damaged_file(paths: PathsConfig, content: str | None) -> None:
    for item_id in ("tea", "cup"):
        block_item(paths, item_id, reason="recalled", now=NOON)
    damage(blocked_path(paths), content)
    assert set(block_item(paths, "pot", reason="", now=NOON)) == {"tea", "cup", "pot"}
    assert set(read_blocked(blocked_path(paths))) == {"tea", "cup", "pot"}
    damage(blocked_path(paths), content)
    assert set(unblock_item(paths, "tea")) == {"cup", "pot"}
    assert known_blocked(paths).problem == ""
    damage(copy_path(paths), "{")
    assert known_blocked(paths).problem == ""  # the file itself can be read
    block_item(paths, "tea", reason="", now=NOON)
    assert read_blocked(copy_path(paths)) == read_blocked(blocked_path(paths))


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("copy", ["{", None])
def test_where_nothing_can_be_read_that_is_said_and_left_as_it_is(
    paths: PathsConfig, content: str, copy: str | None
) -> None:
    path = blocked_path(paths)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    damage(copy_path(paths), copy)
    wanted = r"blocked\.json is unreadable \(.*blocked\.copy\.json is unreadable.*mend it"
    with pytest.raises(CorruptArtifact, match=wanted):
        block_item(paths, "tea", reason="", now=NOON)
    assert (path.read_text(), copy_path(paths).exists()) == (content, copy is not None)


def test_what_is_taken_over_is_whole_and_has_a_copy(paths: PathsConfig) -> None:
    there = blocked_json({"tea": Blocked(reason="recalled", at=NOON)})
    assert replace_by_pulled(paths, there, "there")
    assert not replace_by_pulled(paths, there, "there")
    with pytest.raises(CorruptArtifact, match=r"there is unreadable .*`recsys release announce`"):
        replace_by_pulled(paths, b"{", "there")
    for damaged in (blocked_path(paths), copy_path(paths)):
        damage(damaged, "{")
        assert set(known_blocked(paths).items) == {"tea"}
        assert replace_by_pulled(paths, there, "there")
    assert blocked_path(paths).read_bytes() == copy_path(paths).read_bytes() == there


def test_a_copy_is_made_of_a_whole_file_alone(paths: PathsConfig) -> None:
    keep_copy(paths)
    assert known_blocked(paths) == Known({}, exists=False)
    block_item(paths, "tea", reason="recalled", now=NOON)
    for content in (None, "{"):
        damage(copy_path(paths), content)
        keep_copy(paths)
        assert set(read_blocked(copy_path(paths))) == {"tea"}
    damage(blocked_path(paths), "{")
    keep_copy(paths)
    assert set(read_blocked(copy_path(paths))) == {"tea"}


def test_a_disk_that_does_not_say_whether_there_is_a_list_is_no_shop_without_one(
    paths: PathsConfig,
) -> None:
    paths.releases.mkdir(parents=True)
    for path in (blocked_path(paths), copy_path(paths)):
        damage(path, "->")
    with pytest.raises(
        CorruptArtifact, match=r"blocked\.json is unreadable \(File name too long\)"
    ):
        known_blocked(paths)


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(items=st.dictionaries(texts, texts.map(lambda reason: Blocked(reason=reason, at=NOON))))
def test_what_is_written_is_read(items: dict[str, Blocked]) -> None:
    assert parse_blocked(blocked_json(items), "here") == items


def test_the_commands_show_what_is_off_now(paths: PathsConfig) -> None:
    where = ["--set", f"paths.root={paths.root}"]
    done = CliRunner().invoke(app, ["block-item", "tea", "--reason", "recalled", *where])
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first == "1 items are blocked:"
    assert second.startswith("tea  since ") and second.endswith(" UTC  recalled")
    done = CliRunner().invoke(app, ["unblock-item", "tea", *where])
    assert (done.exit_code, done.stdout) == (0, "0 items are blocked\n")
    done = CliRunner().invoke(app, ["unblock-item", "tea", *where])
    assert done.exit_code == 2
    assert "item 'tea' is not blocked; blocked are: none" in done.output
    assert CliRunner().invoke(app, ["block-item", "tea", *where]).exit_code == 2  # no reason


def test_hosts_that_pull_hear_of_it_and_do_not_decide_it(tmp_path: Path) -> None:
    url = tmp_path / "published"
    where = ["--env", "local", "--set", f"paths.root={tmp_path / 'shop'}"]
    published = [*where, "--set", f"publish.url={url.as_uri()}"]
    assert (
        CliRunner().invoke(app, ["block-item", "tea", "--reason", "recalled", *published]).exit_code
        == 0
    )
    assert list(read_blocked(url / BLOCKED_FILE)) == ["tea"]
    assert CliRunner().invoke(app, ["unblock-item", "tea", *published]).exit_code == 0
    assert read_blocked(url / BLOCKED_FILE) == {}

    paths = PathsConfig(root=str(tmp_path / "shop"))
    write_pull_state(paths, PullState(url=url.as_uri()))
    refused = CliRunner().invoke(app, ["block-item", "tea", "--reason", "recalled", *where])
    assert refused.exit_code == ConfigError.exit_code
    assert f"this host follows {url.as_uri()}" in refused.output
