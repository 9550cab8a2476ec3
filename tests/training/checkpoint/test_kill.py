"""Kill -9 at every step of saving and pruning: there is always a checkpoint that loads, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.config.places import CHECKOUT
from recsys.training.checkpoint import newest
from recsys.training.checkpoint.manifest import Place
from tests.training.checkpoint.doomed import BEFORE, PLACES, save_and_prune
from tests.training.checkpoint.saves import tables

FILES = (
    "dense.npz", "item.weight.0-of-1.npy", "item.sum.0-of-1.npy", "weekday.weight.0-of-1.npy",
    "weekday.mean.0-of-1.npy", "weekday.square.0-of-1.npy",
)  # fmt: skip
COMMITTED = {
    "checkpoint:folder_made": 0,
    "checkpoint:block_written": 0,
    **{f"checkpoint:written {name}": 0 for name in FILES},
    "checkpoint:before_manifest": 0,
    "checkpoint:after_manifest": 1,
    "checkpoint:prune_manifest_gone": 2,  # the third to be kept is the one from before
    "checkpoint:pruned": 2,
}
"""Failpoint -> how many saves are committed when it strikes, beside the one from before."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder that each killed process left."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.checkpoint.doomed", str(folder), *COMMITTED],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(COMMITTED)
    for name in COMMITTED:
        assert f"failpoint {name}: killing process" in done.stderr, "the fault landed"
    return {name: folder / str(number) for number, name in enumerate(COMMITTED)}


@pytest.mark.parametrize("name", COMMITTED)
def test_what_was_committed_loads_and_the_next_process_goes_on(
    killed: dict[str, Path], name: str
) -> None:
    folder = killed[name]
    expected = (BEFORE, *PLACES)[COMMITTED[name]]
    assert loaded(folder) == expected

    save_and_prune(folder)

    assert loaded(folder) == PLACES[-1]
    whole = [path for path in folder.iterdir() if (path / "manifest.json").exists()]
    assert (len(whole), len(list(folder.iterdir()))) == (2, 2), "what was unfinished is gone"


def loaded(folder: Path) -> tuple[int, int]:
    """Where the newest checkpoint stands; its rows must be those that were saved there."""
    found = newest(folder, key="k")
    assert found is not None
    place = (found.manifest.facts.epoch, found.manifest.facts.epoch_step)
    assert found.path.name.startswith(Place(*place, 0).folder_name[:-1])
    for table, arrays in tables(seed=1000 * place[0] + place[1]).items():
        for array, values in arrays.items():
            np.testing.assert_array_equal(found.table(table, array), values)
    return place
