"""The set-up does what is missing, once, and goes on where it was interrupted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.setup.conftest import STEPS, Sandbox


def test_the_second_run_does_nothing(sandbox: Sandbox) -> None:
    first = sandbox.run()
    assert first.returncode == 0, first.stderr
    assert sandbox.ran() == list(STEPS)
    before = sandbox.stamps()

    second = sandbox.run()

    assert second.stdout == "set-up: nothing to do\n"
    assert sandbox.ran() == []
    assert sandbox.stamps() == before
    assert set(before) == set(STEPS)


def test_each_step_says_what_it_does_what_it_downloads_and_how_long_it_took(
    sandbox: Sandbox,
) -> None:
    lines = sandbox.run().stdout.splitlines()

    for number in range(len(STEPS)):
        announced, finished = lines[2 * number : 2 * number + 2]
        assert announced.startswith(f"set-up {number + 1}/{len(STEPS)}: ")
        assert "; downloads " in announced
        assert finished.startswith("    done in ")
    assert "about 3 minutes" in lines[2 * STEPS.index("horovod")]
    assert lines[-1].startswith("set-up: ready after ")


def test_a_step_that_fails_leaves_no_stamp_and_is_the_first_of_the_next_run(
    sandbox: Sandbox,
) -> None:
    sandbox.step("jars", "echo the disk fell over; exit 7")

    failed = sandbox.run()

    assert failed.returncode == 1
    assert "the disk fell over" in failed.stderr
    assert "step jars failed" in failed.stderr
    assert ".cache/logs/jars.log" in failed.stderr
    assert set(sandbox.stamps()) == {"uv", "packages"}
    assert sandbox.ran() == ["uv", "packages", "jars"]

    sandbox.step("jars")
    assert sandbox.run().returncode == 0
    assert sandbox.ran() == ["jars", "horovod", "project", "kernel"]


def test_a_set_up_that_is_killed_goes_on_with_the_step_that_was_interrupted(
    sandbox: Sandbox,
) -> None:
    sandbox.step("horovod", "touch building; sleep 30")
    running = sandbox.start()
    wait_for(sandbox.root / "building")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert set(sandbox.stamps()) == {"uv", "packages", "jars"}
    sandbox.ran()

    sandbox.step("horovod")
    assert sandbox.run().returncode == 0
    assert sandbox.ran() == ["horovod", "project", "kernel"]


def test_a_lost_stamp_repeats_that_step_alone(sandbox: Sandbox) -> None:
    sandbox.run()
    sandbox.ran()
    (sandbox.root / ".cache/stamps/packages").unlink()

    sandbox.run()

    assert sandbox.ran() == ["packages"]


def test_a_jar_that_has_changed_on_disk_is_fetched_again(sandbox: Sandbox) -> None:
    sandbox.run()
    sandbox.ran()
    (sandbox.root / ".cache/jars/delta.jar").write_text("half a jar")

    sandbox.run()

    assert sandbox.ran() == ["jars"]


def test_a_new_lock_renews_what_lives_in_the_environment(sandbox: Sandbox) -> None:
    sandbox.run()
    sandbox.ran()
    with (sandbox.root / "deploy/setup/requirements.lock").open("a") as lock:
        lock.write("one-more==1.0\n")

    sandbox.run()

    assert sandbox.ran() == ["packages", "horovod", "project"]


def test_a_half_done_step_is_repeated_even_when_its_inputs_are_put_back(sandbox: Sandbox) -> None:
    sandbox.run()
    lock = sandbox.root / "deploy/setup/requirements.lock"
    before = lock.read_text()
    lock.write_text(before + "one-more==1.0\n")
    sandbox.step("packages", "exit 1")
    assert sandbox.run().returncode == 1
    sandbox.ran()

    lock.write_text(before)
    sandbox.step("packages")
    sandbox.run()

    assert sandbox.ran() == ["packages"]


def test_a_second_set_up_waits_for_the_first_and_finds_nothing_left(sandbox: Sandbox) -> None:
    sandbox.step("uv", "touch begun; while [[ ! -e go-on ]]; do sleep 0.05; done")
    first = sandbox.start()
    wait_for(sandbox.root / "begun")
    second = sandbox.start()
    assert second.stdout is not None
    assert "another one is running" in second.stdout.readline()
    (sandbox.root / "go-on").touch()

    first.communicate(timeout=30)
    second.communicate(timeout=30)

    assert (first.returncode, second.returncode) == (0, 0)
    assert sandbox.ran() == list(STEPS)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} has not appeared within 30 s"
        time.sleep(0.02)
