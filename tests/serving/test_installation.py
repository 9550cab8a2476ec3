"""`.[serving]`, offline and held to the lock, is enough to answer over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recsys.config.places import PathsConfig
from tests.release.making import make_release
from tests.setup.conftest import CHECKOUT

CACHE = CHECKOUT / ".cache"
LOCK = CHECKOUT / "deploy/setup/requirements.lock"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which nothing but `.[serving]` was installed."""
    folder = tmp_path_factory.mktemp("host")
    sources = folder / "sources"  # setuptools writes beside the sources
    shutil.copytree(
        CHECKOUT / "recsys", sources / "recsys", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, sources / name)
    environment = folder / "environment"
    python = environment / "bin/python"
    uv("venv", "--python", "3.11", str(environment))
    uv(
        *("pip", "install", "--python", str(python)),
        *("--constraint", str(LOCK), "--build-constraint", str(LOCK)),
        f"{sources}[serving]",
    )
    return environment


def uv(*arguments: str) -> None:
    cache = Path(os.environ.get("RECSYS_CACHE") or CACHE) / "uv-cache"
    done = subprocess.run(
        [CACHE / "uv/bin/uv", *arguments, "--offline", "--no-config"],
        env={**os.environ, "UV_CACHE_DIR": str(cache), "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_small_and_as_the_lock_says(host: Path) -> None:
    packages = {path.name for path in (host / "lib/python3.11/site-packages").glob("*.dist-info")}
    installed = {name.removesuffix(".dist-info").replace("_", "-").lower() for name in packages}
    locked = set(re.findall(r"^([a-z0-9][a-z0-9.-]*==[^ ;]+)", LOCK.read_text(), re.MULTILINE))

    engines = ("pyspark", "torch", "horovod", "pyarrow", "pandas", "numpy", "onnxruntime", "mlflow")
    assert not {name for name in installed if name.startswith(engines)}
    pins = {"==".join(name.rsplit("-", 1)) for name in installed if not name.startswith("recsys-")}
    assert len(pins) > 10
    assert pins <= locked


def test_the_service_answers_from_that_environment(host: Path, tmp_path: Path) -> None:
    released = make_release(PathsConfig(root=str(tmp_path / "var")))

    with serving(host, tmp_path / "var") as address:
        known = get(f"{address}/v1/users/ana/recommendations?n=2")
        unknown = get(f"{address}/v1/users/nobody-we-know/recommendations?n=1")

    assert [item["item_id"] for item in known["items"]] == ["tea", "cup"]
    assert known["release"] == released.release_id
    assert unknown["source"] == "popular"


@contextmanager
def serving(host: Path, root: Path) -> Iterator[str]:
    """The service in that environment; the address it prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RECSYS_", "PYTHON"))}
    service = subprocess.Popen(
        [
            *(host / "bin/recsys", "serve"),
            *("--set", f"paths.root={root}"),
            *("--set", f"serving.port={port}"),
        ],
        cwd=root,  # not the checkout: the code must come from the environment
        env={**inherited, "RECSYS_CONF": str(CHECKOUT / "conf")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert service.stdout is not None
    try:
        said = service.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said + service.stdout.read()
        wait_until_ready(address[0])
        yield address[0]
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.communicate(timeout=30)


def wait_until_ready(address: str) -> None:
    """The workers start after the address is printed."""
    deadline = time.monotonic() + 30
    while True:
        try:
            get(f"{address}/readyz")
            return
        except OSError:
            assert time.monotonic() < deadline, f"{address} is not ready after 30 s"
            time.sleep(0.05)


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
