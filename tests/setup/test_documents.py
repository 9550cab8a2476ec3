"""What the documents tell people to type exists."""

from __future__ import annotations

import os
import re
import subprocess

import duckdb
import pytest

from tests.setup.conftest import CHECKOUT

DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def code_of(markdown: str) -> str:
    """Fenced blocks and `spans`: what a reader would copy."""
    blocks = re.findall(r"^ *```.*?^ *```", markdown, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}.*$", rest, re.MULTILINE)
    return "\n".join([*blocks, *indented, *re.findall(r"`([^`\n]+)`", rest)])


def targets_in(text: str) -> set[str]:
    return set(re.findall(r"(?:^|[\s&;(])make ([a-z][a-z_-]*)", text, re.MULTILINE))


def targets_of_the_makefile() -> set[str]:
    makefile = (CHECKOUT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def exists(target: str) -> bool:
    if target.startswith("bench-"):
        return (CHECKOUT / f"benchmarks/{target.removeprefix('bench-')}.py").exists()
    return target in targets_of_the_makefile()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_command_of_a_document_exists(document: os.PathLike[str]) -> None:
    with open(document, encoding="utf-8") as file:
        named = targets_in(code_of(file.read()))
    assert {target for target in named if not exists(target)} == set()


def test_every_question_in_sql_can_be_parsed() -> None:
    """A word that SQL keeps for itself, such as `at`, is no column without its quotes."""
    asked = [
        question
        for document in DOCUMENTS
        for question in re.findall(
            r'(?:make sql Q=|recsys sql (?:--csv |--release \S+ )?)"((?:[^"\\]|\\.)+)"',
            document.read_text(),
        )
        if "…" not in question.replace("'…'", "")
    ]
    assert len(asked) > 10
    for question in asked:
        assert duckdb.extract_statements(question.replace('\\"', '"')), question


def test_the_readme_starts_with_the_demo_and_the_tests() -> None:
    named = targets_in(code_of((CHECKOUT / "README.md").read_text()))
    assert {"demo", "test", "serve", "sql"} <= named


def test_continuous_integration_checks_and_tests() -> None:
    script = CHECKOUT / ".ci/run"
    assert os.access(script, os.X_OK)
    [targets] = re.findall(r"^for target in (.*); do$", script.read_text(), re.MULTILINE)
    assert targets.split() == ["check", "test"]


def test_help_lists_every_target() -> None:
    listed = subprocess.run(
        ["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    named = targets_in(listed)
    assert targets_of_the_makefile() <= named


def test_what_comes_from_the_set_up_does_the_set_up_first() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    own = ("demo", "test", "test-fast", "test-slow", "check", "serve", "sql", "notebook", "mlflow")
    for target in own:
        assert re.search(rf"^{target}: setup\b", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "query",
    ["select 'x', \"y\" from top_n", "select $1, `a`, $(b) -- 100%", "select 1; select '#'"],
)
def test_a_query_reaches_the_command_as_it_was_typed(
    query: str, tmp_path: os.PathLike[str]
) -> None:
    shown = subprocess.run(
        ["make", "sql", "--old-file=setup", "SHELL=/bin/bash", f"Q={query}"],
        cwd=stand_in(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == f"sql|{query}|\n"


def stand_in(folder: os.PathLike[str]) -> str:
    """A folder with our Makefile and a `recsys` that shows its arguments."""
    command = os.path.join(folder, ".venv/bin/recsys")
    os.makedirs(os.path.dirname(command))
    os.symlink(CHECKOUT / "Makefile", os.path.join(folder, "Makefile"))
    os.makedirs(os.path.join(folder, "deploy/setup"))
    for path, body in ((command, 'printf "%s|" "$@"; echo'), ("deploy/setup/setup.sh", ":")):
        program = os.path.join(folder, path)
        with open(program, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/bash\n{body}\n")
        os.chmod(program, 0o755)
    return os.fspath(folder)
