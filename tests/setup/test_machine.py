"""A machine that cannot run the project hears at once what is missing and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.setup.conftest import Sandbox


@pytest.mark.parametrize(
    ("system", "machine"),
    [
        ("Darwin", "arm64"),
        ("Darwin", "x86_64"),
        ("Linux", "aarch64"),
        ("MINGW64_NT-10.0-22631", "x86_64"),
    ],
)
def test_other_platforms_are_refused_before_anything_is_written(
    sandbox: Sandbox, system: str, machine: str
) -> None:
    sandbox.tool("uname", f"[[ $1 == -m ]] && echo {machine} || echo {system}")

    refused = sandbox.run()

    assert refused.returncode == 2
    assert f"this machine is {system} {machine}" in refused.stderr
    assert "What works: Debian 12 or Ubuntu" in refused.stderr
    assert not (sandbox.root / ".cache").exists()
    assert sandbox.ran() == []


@pytest.mark.parametrize(
    ("getconf", "said"),
    [("exit 1", "without glibc"), ("echo glibc 2.28", "glibc 2.28")],
    ids=["musl", "an old glibc"],
)
def test_another_c_library_is_refused(sandbox: Sandbox, getconf: str, said: str) -> None:
    sandbox.tool("getconf", getconf)

    refused = sandbox.run()

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "glibc 2.31 or newer" in refused.stderr


def test_a_missing_java_is_named_with_the_command_that_installs_it(
    sandbox: Sandbox, only_tools: Callable[[Iterable[str]], str]
) -> None:
    sandbox.environment |= {
        "PATH": only_tools(["bash", "env", "readlink", "grep"]),
        "SETUP_JVM_DIRS": "",
    }

    refused = sandbox.run("find-java.sh")

    assert refused.returncode == 2
    assert "Java 17 is needed; found none" in refused.stderr
    assert "apt-get install -y openjdk-17-jre-headless" in refused.stderr


@pytest.mark.parametrize(("version", "major"), [("25.0.1", "25"), ("1.8.0_412", "8")])
def test_a_java_of_another_version_is_named_with_the_fix(
    sandbox: Sandbox,
    java_home: Callable[[str], Path],
    only_tools: Callable[[Iterable[str]], str],
    version: str,
    major: str,
) -> None:
    home = java_home(version)
    sandbox.environment |= {
        "PATH": only_tools(["bash", "env", "readlink", "grep"]),
        "JAVA_HOME": str(home),
        "SETUP_JVM_DIRS": "",
    }

    refused = sandbox.run("find-java.sh")

    assert refused.returncode == 2
    assert f"Java {major} at {home}" in refused.stderr
    assert "export JAVA_HOME=" in refused.stderr


def test_a_java_17_elsewhere_on_the_machine_is_found(
    sandbox: Sandbox, java_home: Callable[[str], Path], tmp_path: Path
) -> None:
    sandbox.environment |= {
        "JAVA_HOME": str(java_home("25.0.1")),
        "SETUP_JVM_DIRS": str(tmp_path),
        "PATH": f"{java_home('21.0.4') / 'bin'}:{sandbox.environment['PATH']}",
    }
    wanted = java_home("17.0.15")

    assert sandbox.run("find-java.sh").stdout.strip() == str(wanted)


def test_java_home_is_honoured(sandbox: Sandbox, java_home: Callable[[str], Path]) -> None:
    home = java_home("17.0.99")
    sandbox.environment["JAVA_HOME"] = str(home)

    assert sandbox.run("find-java.sh").stdout.strip() == str(home)


def test_a_java_that_goes_missing_later_is_noticed(sandbox: Sandbox) -> None:
    assert sandbox.run().returncode == 0
    sandbox.program(
        sandbox.root / "deploy/setup/find-java.sh", "echo Java 17 is needed >&2; exit 2"
    )
    sandbox.tool("id", "echo 1000")

    refused = sandbox.run()

    assert refused.returncode == 2
    assert "Java 17 is needed" in refused.stderr
    assert "openjdk-17-jre-headless" in refused.stderr


def test_a_python_of_another_version_is_named_with_the_fix(
    sandbox: Sandbox, only_tools: Callable[[Iterable[str]], str]
) -> None:
    only = only_tools(["bash", "env", "sort"])
    sandbox.tool("python3", "echo 3.12 - /somewhere/python3.12")
    sandbox.environment["PATH"] = f"{sandbox.root / 'tools'}:{only}"

    refused = sandbox.run("find-python.sh")

    assert refused.returncode == 2
    assert "Python 3.11 is needed; found only:\n  Python 3.12 at /somewhere/python3.12" in (
        refused.stderr
    )
    assert "SETUP_PYTHON" in refused.stderr


NEEDS_A_LOOM = "command  loom-9  weaving-tools  weaving\n"


def test_without_root_a_missing_tool_is_named_with_the_exact_command(sandbox: Sandbox) -> None:
    (sandbox.root / "deploy/setup/system-packages.txt").write_text(NEEDS_A_LOOM)
    sandbox.tool("id", "echo 1000")

    refused = sandbox.run()

    assert refused.returncode == 2
    assert "loom-9: no such command" in refused.stderr
    assert "needed for: weaving" in refused.stderr
    assert "sudo apt-get install -y --no-install-recommends weaving-tools" in refused.stderr
    assert sandbox.ran() == []


def test_as_root_on_debian_a_missing_tool_is_installed(sandbox: Sandbox) -> None:
    (sandbox.root / "deploy/setup/system-packages.txt").write_text(NEEDS_A_LOOM)
    (sandbox.root / "os-release").write_text("ID=debian\n")
    sandbox.environment["SETUP_OS_RELEASE"] = str(sandbox.root / "os-release")
    sandbox.tool("id", "echo 0")
    loom = sandbox.root / "tools/loom-9"
    sandbox.tool("apt-get", f'echo "$@" >>"{sandbox.root}/apt"; cp "$0" "{loom}"')

    done = sandbox.run()

    assert done.returncode == 0, done.stderr
    installed = (sandbox.root / "apt").read_text().splitlines()
    assert installed[0].startswith("update")
    assert installed[1].startswith("install -y --no-install-recommends weaving-tools")


TESTS_WANT_A_LOOM = "tests  loom-9  weaving-tools  the test of the cloth\n"


def test_what_only_tests_need_may_be_missing(sandbox: Sandbox) -> None:
    (sandbox.root / "deploy/setup/system-packages.txt").write_text(TESTS_WANT_A_LOOM)
    sandbox.tool("id", "echo 1000")

    done = sandbox.run()

    assert done.returncode == 0, done.stderr
    assert "wanted by tests, and not on this machine: weaving-tools" in done.stderr
    assert "the tests that need them are skipped" in done.stderr


@pytest.mark.parametrize("succeeds", [True, False])
def test_as_root_on_debian_what_tests_need_is_installed_where_that_works(
    sandbox: Sandbox, succeeds: bool
) -> None:
    (sandbox.root / "deploy/setup/system-packages.txt").write_text(TESTS_WANT_A_LOOM)
    (sandbox.root / "os-release").write_text("ID=debian\n")
    sandbox.environment["SETUP_OS_RELEASE"] = str(sandbox.root / "os-release")
    sandbox.tool("id", "echo 0")
    sandbox.tool("apt-get", f'echo "$@" >>"{sandbox.root}/apt"; {"true" if succeeds else "false"}')

    done = sandbox.run()

    assert done.returncode == 0, done.stderr
    assert "install -y --no-install-recommends weaving-tools" in (sandbox.root / "apt").read_text()
    assert ("are skipped" in done.stderr) is not succeeds


def test_on_another_linux_nothing_is_installed_and_the_packages_are_named(sandbox: Sandbox) -> None:
    (sandbox.root / "deploy/setup/system-packages.txt").write_text(NEEDS_A_LOOM)
    (sandbox.root / "os-release").write_text('ID=fedora\nPRETTY_NAME="Fedora"\n')
    sandbox.environment["SETUP_OS_RELEASE"] = str(sandbox.root / "os-release")
    sandbox.tool("apt-get", f'touch "{sandbox.root}/apt"')

    refused = sandbox.run()

    assert refused.returncode == 2
    assert "weaving-tools" in refused.stderr
    assert not (sandbox.root / "apt").exists()


def test_every_tool_of_the_list_is_of_a_kind_that_is_checked(sandbox: Sandbox) -> None:
    listed = sandbox.root / "deploy/setup/system-packages.txt"
    kinds = {
        line.split()[0] for line in listed.read_text().splitlines() if line[:1] not in ("#", "")
    }
    assert kinds == {"command", "tests", "java", "python", "module", "header"}
    listed.write_text("gadget  loom-9  weaving-tools  weaving\n")
    sandbox.tool("id", "echo 1000")

    assert "unknown kind 'gadget'" in sandbox.run().stderr
