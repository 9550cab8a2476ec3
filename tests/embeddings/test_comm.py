"""The contract suite over every Comm: in this process, and on two ranks of Horovod."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys.embeddings import Comm, LocalComm
from tests.embeddings.comm_contract import CHECKS
from tests.embeddings.ranks import run_ranks


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process(check: Callable[[Comm, Path], None], tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)


@pytest.mark.horovod
def test_two_ranks_of_horovod(tmp_path: Path) -> None:
    run_ranks("tests.embeddings.comm_contract", 2, tmp_path)
    wanted = [2, [check.__name__ for check in CHECKS]]
    for rank in range(2):
        assert json.loads((tmp_path / f"passed-{rank}.json").read_text()) == wanted
