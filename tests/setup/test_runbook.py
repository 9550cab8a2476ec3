"""The runbook's exit codes are those of the errors that the code raises."""

from __future__ import annotations

import re

import pytest

from recsys import errors
from tests.setup.conftest import CHECKOUT

RUNBOOK = (CHECKOUT / "docs" / "runbook.md").read_text(encoding="utf-8")
HEADINGS = dict(re.findall(r"^### (.*) \((\d+)\)$", RUNBOOK, re.MULTILINE))

SAID_IN = [
    # heading, where the code says so, some words of the message
    ('ingest: "… of its rows are quarantined"', "ingest/quality.py", "raise ingest.max_quarantined_share"),
    ("ingest: volume short, doubled or missing", "ingest/volume.py", "is not as usual"),
    ("ingest: a column is missing, a file is truncated", "ingest/files.py", "Have the file delivered as described"),
    ("ingest: a column is missing, a file is truncated", "ingest/files.py", "broken_message(file.name"),
    ('ingest: no file matches, "table … has no row with"', "ingest/files.py", "no file matches"),
    ('any job: "table … does not exist … run the job that makes it first"', "lake/tables.py", "does not exist"),
    ('any job: "… contract broken"', "lake/tables.py", "contract broken:"),
    ("train: a process ended", "training/launch.py", "training processes ended with an error"),
    ("train: the loss is not a number", "training/loop.py", "stopped, not finite"),
    ("train: a checkpoint was not written", "training/checkpoint/saving.py", "was not written"),
    ('train: a checkpoint "does not fit the model of today\'s"', "training/keeper.py", "does not fit the model of"),
    ("evaluate: the gate refused and nothing is live", "evaluation/nightly.py", "No release is live to fall back on"),
    ("export_onnx: parity", "export/parity.py", "ONNX does not give what torch gives"),
    ('score_top_n: "rule … leaves nothing to offer"', "scoring/kit_tables.py", "leaves nothing to offer to"),
    ('score_top_n: "it has seen what came after"', "scoring/choice.py", "it has seen what came after"),
    ("score_top_n, publish: a checksum is off", "release/snapshot.py", "is no snapshot of ours"),
    ("publish: too few users have a list", "release/coverage.py", "users have a list in it that is not empty"),
    ('audit_release: "release … is not what it was published as"', "monitoring/audit.py", "is not what it was"),
    ('clean_up: "nothing is cleaned up"', "retention/holds.py", "nothing is cleaned up"),
    ('score_changes: "Run a full night for this run date"', "scoring/increment.py", "no release is live whose lists"),
    ('score_changes: "lists of … are not what a full run … gives"', "scoring/increment_audit.py", "not what a full"),
    ("lookup service: does not start, port taken", "serving/server.py", "cannot listen on"),
]  # fmt: skip


@pytest.mark.parametrize(("heading", "module", "words"), SAID_IN)
def test_a_heading_has_the_exit_code_of_its_error(heading: str, module: str, words: str) -> None:
    text = (CHECKOUT / "recsys" / module).read_text(encoding="utf-8")
    assert words in text, f"{module} says it otherwise now"
    kind = re.findall(r"(?:raise|return) ([A-Z]\w+)\(", text[: text.index(words)])[-1]
    # A room's own kind of failure, such as TrainingFailed, has the code of a failure.
    exit_code = getattr(errors, kind, errors.RecsysError).exit_code
    assert HEADINGS[heading] == str(exit_code), kind


def test_every_heading_with_an_error_s_code_is_checked() -> None:
    checked = {heading for heading, _, _ in SAID_IN}
    assert {heading for heading, code in HEADINGS.items() if code != "0"} == checked
