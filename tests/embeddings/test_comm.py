"""The contract of Comm in one process and on ranks that are threads; test_sharded.py has it on processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.embeddings import LocalComm
from tests.embeddings.comm_contract import CHECKS
from tests.embeddings.rank_threads import run_ranks
from tests.embeddings.ranks import Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process_keeps_it(check: Check, tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_threads_that_stand_for_ranks_keep_it_too(check: Check, tmp_path: Path) -> None:
    run_ranks(3, lambda comm: check(comm, tmp_path))
