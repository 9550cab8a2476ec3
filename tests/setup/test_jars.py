"""Delta's JARs are the pinned ones, or none."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.setup.conftest import CHECKOUT, Sandbox

SETUP = CHECKOUT / "deploy/setup"


@pytest.fixture
def fetching(sandbox: Sandbox) -> Sandbox:
    """The real step, over a Java whose Ivy "fetches" two files into the folder it is told."""
    shutil.copy(SETUP / "steps/jars.sh", sandbox.root / "deploy/setup/steps/jars.sh")
    home = sandbox.root / "java"
    Sandbox.program(
        home / "bin/java",
        'while [[ $1 != -retrieve ]]; do shift; done; to=$(dirname "$2")\n'
        'printf one >"$to/one.jar"; printf two >"$to/two.jar"',
    )
    (home / "release").write_text('JAVA_VERSION="17.0.1"\n')
    sandbox.environment["JAVA_HOME"] = str(home)
    return sandbox


def pin(sandbox: Sandbox, **contents: bytes) -> None:
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name}.jar\n" for name, content in contents.items()
    ]
    (sandbox.root / "deploy/setup/jars.sha256").write_text("".join(lines))


def jars(sandbox: Sandbox) -> list[str]:
    return sorted(path.name for path in (sandbox.root / ".cache/jars").glob("*"))


def test_the_pinned_files_are_kept(fetching: Sandbox) -> None:
    pin(fetching, one=b"one", two=b"two")

    done = fetching.run()

    assert done.returncode == 0, done.stderr
    assert jars(fetching) == ["one.jar", "two.jar"]


def test_a_jar_with_a_wrong_checksum_is_refused_and_named(fetching: Sandbox) -> None:
    pin(fetching, one=b"one", two=b"what was pinned")

    refused = fetching.run()

    assert refused.returncode == 1
    assert "two.jar is not the file that was pinned" in refused.stderr
    assert f"wanted sha256 {hashlib.sha256(b'what was pinned').hexdigest()}" in refused.stderr
    assert f"found  sha256 {hashlib.sha256(b'two').hexdigest()}" in refused.stderr
    assert jars(fetching) == []
    assert "jars" not in fetching.stamps()


def test_a_jar_that_was_not_fetched_is_named(fetching: Sandbox) -> None:
    pin(fetching, one=b"one", two=b"two", three=b"three")

    refused = fetching.run()

    assert refused.returncode == 1
    assert "three.jar was not fetched" in refused.stderr
    assert jars(fetching) == []


def test_the_checksums_are_for_the_files_that_ivy_is_asked_for() -> None:
    asked = {
        f"{dependency.attrib['name']}-{dependency.attrib['rev']}.jar"
        for dependency in ElementTree.parse(SETUP / "jars.ivy.xml").iter("dependency")
    }
    pinned = {line.split()[1] for line in (SETUP / "jars.sha256").read_text().splitlines()}

    assert len(pinned) == 7
    assert pinned == asked


def test_no_address_of_a_registry_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "deploy/setup"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        path = Path(CHECKOUT, name)
        assert not re.search(r"https?://", path.read_text()), name
