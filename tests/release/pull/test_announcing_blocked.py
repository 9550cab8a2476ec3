"""Announcing what is blocked: to every host that pulls, from the newest publisher alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recsys.blocked import block_item, blocked_path, copy_path, unblock_item
from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact, Refused
from recsys.release.announcement import announce_blocked, read_announcement
from recsys.release.pointer import pointer_path
from recsys.release.remote import open_source, open_target
from tests.release.making import NOON
from tests.release.pull.shops import Shop, files


def blocked_at(shop: Shop) -> dict[str, object]:
    """The blocked items that hosts find at the URL."""
    items: dict[str, object] = json.loads((shop.folder / "blocked.json").read_text())["items"]
    return items


def test_an_outdated_publisher_changes_nothing_at_the_url(shop: Shop, tmp_path: Path) -> None:
    """Above all not the list of blocked items, which hosts take from there."""
    shop.announced(1)
    newest = shop.announced(2)
    block_item(shop.paths, "tea", reason="recalled", now=NOON)
    announce_blocked(shop.paths, open_target(shop.url))
    before = files(shop.folder)

    other = Shop(PathsConfig(root=str(tmp_path / "restored")), shop.folder)
    for epoch in (0, 1, 2):  # nothing live there; older; another release with the same epoch
        if epoch:
            other.release(2 + epoch)
        with pytest.raises(Refused, match=f"announces {newest} with epoch 2.*--take-over"):
            announce_blocked(other.paths, open_target(shop.url))
        if epoch:
            with pytest.raises(Refused, match=f"has epoch {epoch} and would be older"):
                other.announce()
    said = other.command("block-item", "cup", "--reason", "recalled")
    assert (said.exit_code, "--take-over" in said.stderr) == (3, True)
    assert files(shop.folder) == before

    other.announce(take_over=True)
    assert set(json.loads((shop.folder / "blocked.json").read_text())["items"]) == {"cup"}


def test_an_item_is_blocked_here_where_the_url_does_not_answer_and_it_says_who_does_not_know(
    shop: Shop,
) -> None:
    shop.announced(1)
    shop.folder.rename(shop.folder.with_name("away"))
    shop.folder.write_text("no folder")
    said = shop.command("block-item", "tea", "--reason", "recalled")
    assert (said.exit_code, said.stdout.splitlines()[0]) == (1, "1 items are blocked:")
    assert f"holds for services that read {shop.paths.releases}" in said.stderr
    assert shop.url in said.stderr
    assert "the hosts that pull, from where publish.url writes, do not know it yet" in said.stderr
    assert "`recsys release announce`" in said.stderr

    shop.folder.unlink()
    shop.folder.with_name("away").rename(shop.folder)
    assert shop.command("release", "announce").exit_code == 0  # as it says
    assert set(json.loads((shop.folder / "blocked.json").read_text())["items"]) == {"tea"}


@pytest.mark.parametrize("damage", ["damaged", "removed"])
def test_a_damaged_list_of_blocked_items_is_announced_from_its_copy(
    shop: Shop, damage: str
) -> None:
    shop.announced(1)
    block_item(shop.paths, "tea", reason="recalled", now=NOON)
    path = blocked_path(shop.paths)
    path.write_text("{") if damage == "damaged" else path.unlink()
    shop.announced(2)
    announced = shop.folder / "blocked.json"
    assert set(json.loads(announced.read_text())["items"]) == {"tea"}

    # Where nobody knows it, hosts keep what they have, and the release goes out all the same.
    path.write_text("{")
    copy_path(shop.paths).write_text("{")
    third = shop.announced(3)
    assert set(json.loads(announced.read_text())["items"]) == {"tea"}
    there = read_announcement(open_source(shop.url))
    assert there is not None and there.release_id == third
    with pytest.raises(CorruptArtifact, match=r"blocked\.copy\.json is unreadable"):
        announce_blocked(shop.paths, open_target(shop.url))


def test_a_damaged_pointer_keeps_no_recall_from_the_hosts(shop: Shop, tmp_path: Path) -> None:
    first = shop.announced(1)
    shop.announced(2)
    assert shop.command("release", "roll-back").exit_code == 0
    announced = (shop.folder / "current").read_bytes()
    pointer_path(shop.paths).write_text("{")
    said = shop.command("block-item", "tea", "--reason", "recalled")
    assert (said.exit_code, set(blocked_at(shop))) == (0, {"tea"}), said.output
    assert (shop.folder / "current").read_bytes() == announced

    # One that took over since is the newer one, whatever is damaged here.
    other = Shop(PathsConfig(root=str(tmp_path / "other")), shop.folder)
    other.release(3)
    other.announce(take_over=True)
    before = blocked_at(shop)
    said = shop.command("block-item", "cup", "--reason", "recalled")
    assert (said.exit_code, f"{first}, live here, has epoch 3" in said.stderr) == (3, True)
    assert blocked_at(shop) == before

    (shop.paths.releases / "actions.jsonl").unlink()
    said = shop.command("block-item", "pot", "--reason", "recalled")
    assert "the pointer" in said.stderr and "is unreadable" in said.stderr
    assert blocked_at(shop) == before


def test_blocked_items_are_announced_alone_too(shop: Shop) -> None:
    shop.announced(1)
    blocked = shop.folder / "blocked.json"
    assert json.loads(blocked.read_text()) == {"items": {}}
    block_item(shop.paths, "tea", reason="recalled", now=NOON)
    announce_blocked(shop.paths, open_target(shop.url))
    assert set(json.loads(blocked.read_text())["items"]) == {"tea"}
    unblock_item(shop.paths, "tea")
    shop.announce()
    assert json.loads(blocked.read_text())["items"] == {}
