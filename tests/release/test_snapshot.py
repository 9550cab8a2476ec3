"""Building, verifying and opening snapshots."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from recsys.config.places import PathsConfig
from recsys.errors import ContractError, CorruptArtifact
from recsys.records import sha256_of
from recsys.release.manifest import ReleaseManifest
from recsys.release.opening import open_release, open_release_aside
from recsys.release.pointer import release_folder
from recsys.release.snapshot import (
    CARD_FILE,
    CHECKSUMS_FILE,
    DATA_FILE,
    MANIFEST_FILE,
    Snapshot,
    verify_checksums,
)
from recsys.release.snapshot_builder import SnapshotBuilder, start_writing_out
from recsys.release.stored_list import decode, encode, key_of
from tests.release.making import (
    BOUGHT,
    CATEGORIES,
    FACTS,
    ITEMS,
    USERS,
    make_release,
    places,
    rewritten_as,
    write_checksums,
)
from tests.small_disk import run_on_small_disk

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paths = PathsConfig(root=str(tmp_path))
    return release_folder(paths, make_release(paths).release_id)


def test_what_was_built_is_found_by_id(folder: Path) -> None:
    with open_release(folder) as snapshot:
        for user_id, listed in USERS.items():
            value = snapshot.get("users", user_id)
            assert value is not None
            assert decode(value) == listed
        assert snapshot.get("users", "zed") is None
        assert snapshot.get("items", "ana") is None  # users and items do not mix
        assert (snapshot.count("users"), snapshot.longest("users")) == (len(USERS), 3)
        assert len(snapshot.sample("items", 99)) == len(ITEMS)


def flip_a_byte(folder: Path) -> None:
    with open(folder / DATA_FILE, "r+b") as file:
        file.seek(-100, 2)
        [byte] = file.read(1)
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))


def cut_short(folder: Path) -> None:
    data = (folder / DATA_FILE).read_bytes()
    (folder / DATA_FILE).write_bytes(data[: len(data) // 2])


def change_a_golden_answer(folder: Path) -> None:
    manifest = ReleaseManifest.read(folder)
    changed = manifest.model_copy(update={"golden_users": {"ana": "0" * 16}})
    (folder / MANIFEST_FILE).write_text(changed.to_json())
    write_checksums(folder)


def lose_a_user(folder: Path) -> None:
    manifest = ReleaseManifest.read(folder)
    changed = manifest.model_copy(update={"counts": {**manifest.counts, "users": 6}})
    (folder / MANIFEST_FILE).write_text(changed.to_json())
    write_checksums(folder)


def write_rubbish(folder: Path) -> None:
    (folder / DATA_FILE).write_bytes(b"x" * 8192)
    write_checksums(folder)


def truncate_the_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text('{"release_id": ')


def write_no_text(folder: Path) -> None:
    sums = (folder / CHECKSUMS_FILE).read_bytes()
    (folder / CHECKSUMS_FILE).write_bytes(b"\xff" + sums[1:])


def write_a_card(folder: Path) -> None:
    (folder / CARD_FILE).write_text("# Model m1\n")
    sums = (folder / CHECKSUMS_FILE).read_text()
    (folder / CHECKSUMS_FILE).write_text(f"{sums}{sha256_of(folder / CARD_FILE)}  {CARD_FILE}\n")


def change_the_card(folder: Path) -> None:
    write_a_card(folder)
    (folder / CARD_FILE).write_text("# Model m2\n")


def aside(folder: Path) -> Snapshot:
    return asyncio.run(open_release_aside(folder))


@pytest.mark.parametrize("opened", [open_release, aside], ids=["here", "aside"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, r"checksum of .*data\.mdb is off: found .*SHA256SUMS says"),
        (cut_short, r"checksum of .*data\.mdb is off"),
        (
            change_a_golden_answer,
            r"answers golden user 'ana' with [0-9a-f]{16}, the table with 0{16}",
        ),
        (lose_a_user, r"has 5 users, its manifest says 6"),
        (write_rubbish, r"cannot be opened as a snapshot"),
        (truncate_the_manifest, r"manifest\.json is damaged"),
        (lambda folder: (folder / MANIFEST_FILE).unlink(), r"has no .*manifest\.json"),
        (lambda folder: (folder / DATA_FILE).unlink(), r"has no .*data\.mdb"),
        (lambda folder: (folder / CHECKSUMS_FILE).unlink(), r"has no .*SHA256SUMS"),
        (write_no_text, r"checksum of .*data\.mdb is off"),
        (change_the_card, r"checksum of .*model_card\.md is off"),
    ],
)
def test_a_damaged_release_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str, opened: Callable[[Path], Snapshot]
) -> None:
    damage(folder)
    with pytest.raises(CorruptArtifact, match=message):
        opened(folder)


@pytest.mark.parametrize("opened", [open_release, aside], ids=["here", "aside"])
def test_a_release_without_the_card_that_its_checksums_name_is_whole(
    folder: Path, opened: Callable[[Path], Snapshot]
) -> None:
    """A host of an older version pulled it so: the checksums, and the files that it knew."""
    write_a_card(folder)
    assert verify_checksums(folder) == 3
    (folder / CARD_FILE).unlink()
    assert verify_checksums(folder) == 2
    opened(folder).close()


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    verify_checksums(folder)
    lines = (folder / CHECKSUMS_FILE).read_text().splitlines()
    assert [line[64:] for line in lines] == [f"  {DATA_FILE}", f"  {MANIFEST_FILE}"]


def test_facts_and_what_was_bought_are_json_as_it_was_given(folder: Path) -> None:
    with open_release(folder) as snapshot:
        assert orjson.loads(snapshot.get("facts", "tea") or b"") == FACTS["tea"]
        assert orjson.loads(snapshot.get("bought", "ana") or b"") == BOUGHT["ana"]
        assert snapshot.get("bought", "bob") is None
        assert snapshot.longest("facts") == 0  # no lists, so no length


def test_many_are_found_as_each_is(folder: Path) -> None:
    ids = ["zed", "ana", "ana", "", "x" * 600]
    with open_release(folder) as snapshot:
        assert snapshot.get_many("users", ids) == [snapshot.get("users", id_) for id_ in ids]


def test_a_release_of_the_first_format_is_served_without_what_it_lacks(folder: Path) -> None:
    rewritten_as(folder, 1)
    with open_release(folder) as snapshot:
        assert decode(snapshot.get("users", "ana") or b"") == USERS["ana"]
        assert (snapshot.count("facts"), snapshot.longest("categories")) == (0, 0)
        assert snapshot.get("facts", "tea") is None
        assert snapshot.get_many("bought", ["ana", "bob"]) == [None, None]
        assert snapshot.sample("categories", 5) == []


def test_a_release_of_the_second_format_is_whole_without_what_is_also_bought(folder: Path) -> None:
    rewritten_as(folder, 2)
    with open_release(folder) as snapshot:
        assert decode(snapshot.get("items", "tea") or b"") == ITEMS["tea"]
        assert snapshot.count("categories") == len(CATEGORIES)
        assert (snapshot.count("also_bought"), snapshot.longest("also_bought")) == (0, 0)
        assert snapshot.get("also_bought", "tea") is None


def test_an_unknown_format_is_refused(folder: Path) -> None:
    rewritten_as(folder, 4)
    with pytest.raises(CorruptArtifact, match="has format 4, this service reads 1, 2, 3"):
        Snapshot(folder)


def test_keys_out_of_order_are_refused(tmp_path: Path) -> None:
    value = encode(places("tea"))
    with SnapshotBuilder(tmp_path, "2024-06-01-x") as builder:
        builder.add("users", [([b"b"], [value])])
        with pytest.raises(ContractError, match="came twice or out of order"):
            builder.add("users", [([b"a"], [value])])


def test_a_snapshot_grows_past_its_first_map(tmp_path: Path) -> None:
    value = encode(places(*(f"item {n}" for n in range(100))))
    ids = sorted((f"user {n}" for n in range(6000)), key=key_of)
    with SnapshotBuilder(tmp_path, "2024-06-01-x") as builder:
        for start in range(0, len(ids), 500):
            keys = [key_of(id_) for id_ in ids[start : start + 500]]
            builder.add("users", [(keys, [value] * len(keys))])
        builder.finish()
    assert (tmp_path / DATA_FILE).stat().st_size > 1 << 25
    with Snapshot(tmp_path) as snapshot:
        assert snapshot.count("users") == 6000
        assert bytes(snapshot.get("users", "user 5999") or b"") == value


def test_a_builder_leaves_no_file_open_and_a_hint_refused_is_no_error(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with SnapshotBuilder(tmp_path, "2024-06-01-x") as builder:
        builder.add("users", [([b"a"], [memoryview(encode(places("tea")))])])
        builder.finish()
    assert len(os.listdir("/proc/self/fd")) == before
    reading, writing = os.pipe()  # no file, so no kernel writes it out
    start_writing_out(writing)
    os.close(reading)
    os.close(writing)


def test_a_full_disk_is_an_error_and_the_live_release_stays(tmp_path: Path) -> None:
    script = str(CHECKOUT / "tests" / "release" / "outgrow.py")
    done = run_on_small_disk(
        [sys.executable, script, str(tmp_path / "disk")],
        tmp_path / "disk", megabytes=4, env={"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert said[0].startswith(f"ENOSPC in {tmp_path / 'disk'}")
    assert said[1] == "the first release is live and whole"
