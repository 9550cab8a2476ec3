"""blocked.json: what the person on call took off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recsys.blocked import (
    BLOCKED_FILE,
    Blocked,
    block_item,
    blocked_path,
    read_blocked,
    unblock_item,
    write_blocked,
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
    assert read_blocked(blocked_path(paths)) == {}
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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"items": {"tea": {"why": "x"}}}'])
def test_a_damaged_file_is_named_and_left_as_it_is(paths: PathsConfig, content: str) -> None:
    path = blocked_path(paths)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CorruptArtifact, match=r"blocked\.json is unreadable \(.*mend it"):
        block_item(paths, "tea", reason="", now=NOON)
    assert path.read_text() == content


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(items=st.dictionaries(texts, texts.map(lambda reason: Blocked(reason=reason, at=NOON))))
def test_what_is_written_is_read(
    items: dict[str, Blocked], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocked.json"
    write_blocked(path, items)
    assert read_blocked(path) == items


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
