"""What cron calls, over jobs that only say that they ran."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from recsys.config.places import CHECKOUT

LIGHTER_NIGHT = CHECKOUT / "deploy" / "scheduler" / "lighter_night"
OPTIONS = "--run-date 2024-06-02 --env local"


def night(folder: Path, **codes: int) -> tuple[int, list[str]]:
    """Exit code and command lines of a night whose jobs end with ``codes``, 0 where nothing is said."""
    jobs = folder / "spark-submit.sh"
    jobs.write_text('#!/bin/sh\necho "$@" >> ran\neval "exit \\${$1:-0}"\n')
    jobs.chmod(0o755)
    given = os.environ | {name: str(code) for name, code in codes.items()}
    done = subprocess.run(
        [LIGHTER_NIGHT, "2024-06-02", "--env", "local"],
        check=False, cwd=folder, env=given, timeout=30,
    )  # fmt: skip
    return done.returncode, (folder / "ran").read_text().splitlines()


def test_a_lighter_night_is_of_those_who_did_something(tmp_path: Path) -> None:
    assert night(tmp_path) == (
        0,
        [f"{job} {OPTIONS}" for job in ("ingest", "score_changes", "publish")],
    )


def test_where_changes_are_refused_the_night_is_a_whole_one(tmp_path: Path) -> None:
    code, ran = night(tmp_path, score_changes=3)

    assert ran[1:] == [f"score_changes {OPTIONS}", f"run_pipeline {OPTIONS} --from build_features"]
    assert code == 3  # a person reads why


def test_a_whole_night_that_fails_says_so(tmp_path: Path) -> None:
    assert night(tmp_path, score_changes=3, run_pipeline=2)[0] == 2


@pytest.mark.parametrize(("job", "code"), [("ingest", 3), ("score_changes", 2), ("publish", 3)])
def test_what_a_person_must_see_to_ends_the_night(tmp_path: Path, job: str, code: int) -> None:
    ended, ran = night(tmp_path, **{job: code})

    assert ended == code and ran[-1] == f"{job} {OPTIONS}"
