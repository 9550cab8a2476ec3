"""All ranks look together: each hashes its share, and what one finds damaged none takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from recsys.embeddings import Comm
from recsys.training.checkpoint import Search
from tests.embeddings.rank_threads import run_ranks
from tests.training.checkpoint.saves import save
from tests.training.checkpoint.test_damage import flip_a_bit


def found_by(folder: Path, size: int, *, key: str = "k") -> Path | None:
    """What all ranks agree to go on from."""

    def of_rank(comm: Comm) -> Path | None:
        found = Search(folder, key, comm).newest()
        return found.path if found else None

    [path] = set(run_ranks(size, of_rank))
    return path


def test_every_file_is_hashed_by_one_rank(tmp_path: Path) -> None:
    path = save(tmp_path, 1, size=2)
    counts = [0, 0, 0]

    def of_rank(comm: Comm) -> None:
        def count() -> None:
            counts[comm.rank] += 1

        assert Search(tmp_path, "k", comm, count).newest() is not None

    run_ranks(3, of_rank)
    num_files = (
        len(list(path.iterdir())) - 1
    )  # each smaller than a block; the manifest is read by all
    assert sum(counts) == num_files
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_damage_in_any_file_is_seen_by_all_and_told_once(tmp_path: Path, size: int) -> None:
    first, last = save(tmp_path, 1, size=2), save(tmp_path, 1, 5, size=2)
    assert found_by(tmp_path, size) == last
    for file in sorted(last.glob("*.np?")):
        whole = file.read_bytes()
        flip_a_bit(file)
        with capture_logs() as logs:
            assert found_by(tmp_path, size) == first
        [line] = logs
        assert f"{file.name} has sha256" in line["reason"]
        file.write_bytes(whole)
    assert found_by(tmp_path, size, key="another run") is None


def test_what_cannot_be_finished_is_passed_over(tmp_path: Path) -> None:
    """The first epoch is the best of all."""
    start, best = save(tmp_path, 0, 5), save(tmp_path, 1, validation=(0.5,))
    later = [
        save(tmp_path, 1, 5, validation=(0.5,)), save(tmp_path, 2, validation=(0.5, 0.4)),
        save(tmp_path, 2, 5, validation=(0.5, 0.4)),
    ]  # fmt: skip
    assert found_by(tmp_path, 2) == later[-1]
    flip_a_bit(best / "dense.npz", 200)
    with capture_logs() as logs:
        assert found_by(tmp_path, 2) == start
    assert sum("cannot be finished" in line["reason"] for line in logs) == len(later)
    again = save(tmp_path, 1, validation=(0.5,))
    assert again.name == "epoch-001-step-000000-1"
    assert found_by(tmp_path, 2) == later[-1]


def test_the_best_epoch_is_of_the_same_attempt(tmp_path: Path) -> None:
    """An attempt on another number of ranks has other weights, and another validation, after equal epochs."""
    first = save(tmp_path, 1, validation=(0.5,))
    save(tmp_path, 1, validation=(0.4,))

    def of_rank(comm: Comm) -> None:
        search = Search(tmp_path, "k", comm)
        found = search.end_of(1, (0.5, 0.3))
        assert found is not None
        assert found.path == first
        assert search.end_of(1, (0.6, 0.3)) is None
        assert search.end_of(2, (0.5, 0.3)) is None

    run_ranks(2, of_rank)
