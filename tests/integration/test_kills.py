"""Kill -9 of each job after its first data file and before its commit, then again: the same content.

The undisturbed run is made first; each job is then killed on a copy of the lake and run again to its end.
`make test` has one such kill, of a single write (tests/lake/test_kill.py).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from recsys import contracts
from recsys.config import RecsysConfig, load_config
from recsys.contracts import TableContract
from recsys.lake import Lake
from recsys.release.pointer import live_release
from recsys.runner.pipeline import STEPS
from tests.integration.nights import NIGHT, Shop
from tests.kills import run_and_kill

CHECKOUT = Path(__file__).parents[2]

WATCHED: dict[str, tuple[TableContract, ...]] = {
    "ingest": (contracts.EVENTS, contracts.QUARANTINE, contracts.ITEMS),
    "build_features": (contracts.HISTORIES, contracts.VOCABULARIES, contracts.ITEM_FEATURES),
    "build_candidates": (
        contracts.ITEM_SIMILARITY,
        contracts.TRANSITIONS,
        contracts.REORDER_INTERVALS,
        contracts.POPULARITY,
    ),
    "build_training_set": (contracts.TRAINING_EXAMPLES,),
    "evaluate": (contracts.METRICS, contracts.GATE_VERDICTS),
    "score_top_n": (
        contracts.TOP_N_LISTS,
        contracts.SIMILAR_ITEMS,
        contracts.ALSO_BOUGHT,
        contracts.POPULAR_ITEMS,
    ),
}
"""Job -> the tables it replaces; it is killed while it writes the first."""

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def copy(shop: Shop, first_night: RecsysConfig, tmp_path: Path) -> tuple[RecsysConfig, list[str]]:
    """A copy of the shop's night to be broken, and the arguments that point a job at it."""
    shutil.copytree(first_night.paths.root, tmp_path / "var")
    shutil.rmtree(tmp_path / "var" / "releases")  # nothing was live when these jobs ran
    overrides = [*shop.overrides, f"paths.root={tmp_path / 'var'}", "gate.bootstrap=true"]
    arguments = ["--env", "generated_shop", "--run-date", str(NIGHT)]
    arguments += [word for override in overrides for word in ("--set", override)]
    return load_config("generated_shop", overrides), arguments


def hashes(lake: Lake, tables: tuple[TableContract, ...]) -> dict[str, str]:
    return {table.name: lake.content_hash(table) for table in tables}


@pytest.mark.parametrize("job", WATCHED)
def test_a_killed_job_run_again_gives_the_same_content(
    job: str, shop: Shop, copy: tuple[RecsysConfig, list[str]]
) -> None:
    config, arguments = copy
    tables = WATCHED[job]
    undisturbed = hashes(shop.lake, tables)
    lake = Lake(shop.lake.spark, config.paths)
    table = Path(lake.path(tables[0]))
    before = lake.version(tables[0])

    command = [str(CHECKOUT / "spark-submit.sh"), job, *arguments]
    killed = run_and_kill(command, table, timeout_seconds=600)
    assert killed.uncommitted_files and killed.version == before, (
        "the fault landed before the commit"
    )

    answer = subprocess.run(command, check=False)
    assert answer.returncode == 0
    assert lake.version(tables[0]) > before
    assert hashes(lake, tables) == undisturbed


@pytest.mark.parametrize(
    "failpoint", ["publish:after-snapshot", "publish:before-pointer", "publish:after-pointer"]
)
def test_a_killed_publish_run_again_gives_the_same_release(
    failpoint: str, first_night: RecsysConfig, copy: tuple[RecsysConfig, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config, arguments = copy
    published = live_release(first_night.paths)
    command = [str(CHECKOUT / "spark-submit.sh"), "publish", *arguments]
    monkeypatch.setenv("RECSYS_FAILPOINT", failpoint)
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    # spark-submit passes on what its Python writes to either stream as standard output
    assert f"failpoint {failpoint}: killing process" in killed.stdout, "the fault landed"
    monkeypatch.delenv("RECSYS_FAILPOINT")
    assert (live_release(config.paths) is not None) == (failpoint == "publish:after-pointer")
    assert subprocess.run(command, check=False).returncode == 0
    again = live_release(config.paths)
    assert published is not None and again is not None
    assert again.release_id == published.release_id
    assert again.content_hash == published.content_hash


def test_every_step_is_killed_by_some_test() -> None:
    """train and export_onnx are killed in their own rooms' tests, after a checkpoint and before the manifest."""
    assert set(STEPS) == set(WATCHED) | {"publish", "train", "export_onnx"}
