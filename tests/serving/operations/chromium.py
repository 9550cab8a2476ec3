"""A headless Chromium, driven through its debugging pipe: https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving.operations.tools import installed

PATIENCE_SECONDS = 60
WIDTH, HEIGHT = 1200, 640
BODY = "document.body.innerText"
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root may not have one; it loads nothing but our page
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves the machine
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


@dataclass
class Browser:
    """One tab. What goes wrong in the page is in ``complaints``."""

    read_fd: int
    write_fd: int
    complaints: list[str] = field(default_factory=list)
    _held: bytes = b""
    _number: int = 0
    _session: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the browser and wait for its answer."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self.write_fd, json.dumps(call).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def open(self, url: str) -> None:
        """Afresh, also where only what stands behind the # is another."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        done = self._run(expression)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript condition holds; one that fails does not, as the page may still be loading."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._run(f"Boolean({condition})")["result"].get("value") is not True:
            assert time.monotonic() < deadline, f"{condition} never held: {self._run(BODY)}"
            time.sleep(0.02)

    def _run(self, expression: str) -> dict[str, Any]:
        return self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )

    def type(self, text: str, into: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(into)}).select()")
        self.ask("Input.insertText", text=text)

    def press_enter(self) -> None:
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def rows(self, table: str) -> list[list[str]]:
        """What stands in the cells of a table's body, as people see it."""
        cells = "[...row.cells].map((cell) => cell.innerText.trim())"
        return list(
            self.evaluate(f"[...document.getElementById('{table}').rows].map((row) => {cells})")
        )

    def text(self, element: str) -> str:
        return str(self.evaluate(f"document.getElementById('{element}').innerText"))

    def screenshot(self, *, height: int = HEIGHT) -> bytes:
        """From the top of the page down, in PNG."""
        shown = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        taken = self.ask(
            "Page.captureScreenshot", format="png", clip=shown, captureBeyondViewport=True
        )
        return base64.b64decode(taken["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self.read_fd], [], [], PATIENCE_SECONDS)
            assert ready, "Chromium does not answer"
            part = os.read(self.read_fd, 1 << 20)
            assert part, "Chromium has ended"
            self._held += part
        message, _, self._held = self._held.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start one with a profile of its own, end it."""
    ours, theirs = os.pipe(), os.pipe()
    # It reads its calls from descriptor 3 and answers on 4.
    to_3_and_4 = f'exec "$@" 3<&{theirs[0]} 4>&{ours[1]}'
    command = ["bash", "-c", to_3_and_4, "bash", installed("chromium"), *OPTIONS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={profile}"],
        pass_fds=(theirs[0], ours[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs[0])
    os.close(ours[1])
    try:
        browser = Browser(ours[0], theirs[1])
        browser.begin()
        yield browser
        browser.ask("Browser.close")
    finally:
        os.close(ours[0])
        os.close(theirs[1])  # without its pipe it ends, too
        process.wait(timeout=PATIENCE_SECONDS)
