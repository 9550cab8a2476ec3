"""Pins and roll-backs, by the console command as an operator types it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.release.actions import actions_path, read_actions
from recsys.release.pointer import (
    Pointer,
    pointer_lock,
    pointer_path,
    read_pointer,
    release_folder,
    write_pointer,
)
from recsys.release.shelf import shelved_releases, sweep_leftovers, sweep_old
from recsys.release.snapshot import DATA_FILE
from tests.release.making import NOON, make_release

DAYS = [date(2024, 6, day) for day in (1, 2, 3)]


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(root=str(tmp_path))


@pytest.fixture
def names(paths: PathsConfig) -> list[str]:
    """Three releases, the last one live, the second one live before it."""
    return [make_release(paths, day).release_id for day in DAYS]


def recsys(paths: PathsConfig, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--set", f"paths.root={paths.root}"])


def live(paths: PathsConfig) -> tuple[str, str, bool]:
    pointer = read_pointer(paths)
    assert pointer is not None
    return pointer.release_id, pointer.previous, pointer.pinned


def test_list_shows_the_newest_first_and_what_is_live(paths: PathsConfig, names: list[str]) -> None:
    (release_folder(paths, names[0]) / "manifest.json").write_text("{")
    lines = recsys(paths, "release", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == names[::-1]
    assert [line.split()[1] for line in lines] == ["live", "previous", "manifest"]
    assert "manifest missing or damaged" in lines[2]


def test_roll_back_goes_to_the_release_before_and_pins_it(
    paths: PathsConfig, names: list[str]
) -> None:
    result = recsys(paths, "release", "roll-back", "--reason", "bad lists")
    assert (result.exit_code, live(paths)) == (0, (names[1], names[2], True))
    [action] = read_actions(paths)
    assert (action.release_id, action.action, action.reason) == (
        names[1],
        "rolled_back",
        "bad lists",
    )
    assert action.run_date == DAYS[1]


def test_roll_back_to_a_named_release(paths: PathsConfig, names: list[str]) -> None:
    assert recsys(paths, "release", "roll-back", "--to", names[0]).exit_code == 0
    assert live(paths) == (names[0], names[2], True)


def test_pin_then_unpin(paths: PathsConfig, names: list[str]) -> None:
    assert recsys(paths, "release", "pin", "--reason", "sales week").exit_code == 0
    assert live(paths) == (names[2], names[1], True)
    assert "sales week" in recsys(paths, "release", "list").stdout
    assert recsys(paths, "release", "unpin").exit_code == 0
    assert live(paths) == (names[2], names[1], False)
    assert recsys(paths, "release", "pin", names[0]).exit_code == 0
    assert live(paths) == (names[0], names[2], True)
    assert [one.action for one in read_actions(paths)] == ["pinned", "unpinned", "pinned"]


def test_what_cannot_be_done_is_said_and_changes_nothing(
    paths: PathsConfig, names: list[str]
) -> None:
    (release_folder(paths, names[0]) / DATA_FILE).write_bytes(b"short")
    before = pointer_path(paths).read_bytes()
    cases = [
        (("unpin",), 2, "nothing is pinned"),
        (("pin", "2020-01-01-x"), 2, f"no release '2020-01-01-x' on disk; there are: {names[2]}"),
        (("roll-back", "--to", names[0]), 3, "is off"),  # damaged: refused
    ]
    for arguments, exit_code, message in cases:
        result = recsys(paths, "release", *arguments)
        assert (result.exit_code, message in result.stderr) == (exit_code, True), result.stderr
    assert pointer_path(paths).read_bytes() == before


def test_without_any_release_the_way_to_one_is_named(paths: PathsConfig) -> None:
    for arguments in (("pin",), ("unpin",), ("roll-back",)):
        result = recsys(paths, "release", *arguments)
        assert (result.exit_code, "make demo" in result.stderr) == (1, True)
    assert "no releases" in recsys(paths, "release", "list").stdout


def test_the_first_release_has_none_to_roll_back_to(paths: PathsConfig) -> None:
    name = make_release(paths).release_id
    result = recsys(paths, "release", "roll-back")
    assert (result.exit_code, f"take one with --to: {name}" in result.stderr) == (2, True)


def test_an_unreadable_pointer_is_repaired_by_a_named_roll_back(
    paths: PathsConfig, names: list[str]
) -> None:
    pointer_path(paths).write_text("{")
    result = recsys(paths, "release", "roll-back")
    assert (result.exit_code, "is unreadable" in result.stderr) == (3, True)
    listed = recsys(paths, "release", "list")  # what the message tells to choose from
    assert [line.split()[0] for line in listed.stdout.splitlines()] == names[::-1]
    assert recsys(paths, "release", "roll-back", "--to", names[1]).exit_code == 0
    assert live(paths) == (names[1], "", True)


def test_a_torn_line_of_the_log_hides_no_other(paths: PathsConfig, names: list[str]) -> None:
    recsys(paths, "release", "pin")
    with open(actions_path(paths), "a") as file:
        file.write('{"release_id": "2024-')
    recsys(paths, "release", "unpin")
    assert [one.action for one in read_actions(paths)] == ["pinned", "unpinned"]


def test_old_releases_go_but_never_the_live_or_the_previous_one(paths: PathsConfig) -> None:
    names = [make_release(paths, date(2024, 6, day)).release_id for day in range(1, 6)]
    recsys(
        paths, "release", "roll-back", "--to", names[0]
    )  # live: the oldest; previous: the newest
    assert sorted(sweep_old(paths, keep=2)) == names[1:3]
    assert [one.release_id for one in shelved_releases(paths)] == [names[4], names[3], names[0]]


def test_a_release_chosen_while_a_sweep_waits_stays(paths: PathsConfig) -> None:
    names = [make_release(paths, date(2024, 6, day)).release_id for day in range(1, 6)]
    sweep = threading.Thread(target=sweep_old, args=(paths,), kwargs={"keep": 2})
    with pointer_lock(paths):  # as a roll-back to the oldest release holds it
        sweep.start()
        sweep.join(timeout=0.5)
        assert len(shelved_releases(paths)) == 5, "nothing goes while the pointer may move"
        write_pointer(paths, Pointer(release_id=names[0], previous=names[4], pinned=True, at=NOON))
    sweep.join()
    assert [one.release_id for one in shelved_releases(paths)] == [names[4], names[3], names[0]]


def test_a_sweep_that_is_killed_leaves_names_that_no_roll_back_finds(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [make_release(paths, date(2024, 6, day)).release_id for day in range(1, 6)]

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        sweep_old(paths, keep=2)
    assert [one.release_id for one in shelved_releases(paths)] == names[:2:-1]
    assert sweep_leftovers(paths) == [f".removing-{name}" for name in names[:3]]


def test_what_a_killed_publish_left_is_swept(paths: PathsConfig, names: list[str]) -> None:
    for leftover in (".building-2024-06-04-x", ".removing-2024-05-01-x"):
        (paths.releases / leftover / "snapshot").mkdir(parents=True)
    assert sweep_leftovers(paths) == [".building-2024-06-04-x", ".removing-2024-05-01-x"]
    assert [one.release_id for one in shelved_releases(paths)] == names[::-1]


def test_the_command_needs_neither_a_jvm_nor_the_batch_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['duckdb', 'granian', 'lmdb'], None))\n"
        "from typer.testing import CliRunner\nfrom recsys.cli import app\n"
        "for args in (['sql', 'select 1'], ['serve'], ['release', 'pin']):\n"
        "    result = CliRunner().invoke(app, args)\n"
        "    print(result.exit_code, result.stderr)\n"
        "heavy = {'pyspark', 'torch', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert (
        "2 error: this command needs duckdb, which is not installed: pip install 'recsys[batch]'"
        in out
    )
    assert "2 error: this command needs granian" in out
    assert (
        "2 error: this command needs lmdb, which is not installed: pip install 'recsys[serving]'"
        in out
    )
