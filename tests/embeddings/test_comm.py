"""The contract of Comm in one process; test_sharded.py has it on several."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.embeddings import LocalComm
from tests.embeddings.comm_contract import CHECKS
from tests.embeddings.ranks import Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process(check: Check, tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)
