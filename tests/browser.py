"""A real headless Chromium, driven over its debugging pipe; no driver, no package, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)

# Chromium reads commands from descriptor 3 and answers on 4.
WRAPPER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for target, end in zip((3, 4), ends):
    os.dup2(end, target)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Tab:
    """A page in the browser, the size of a phone."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""
        self._number = 0
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.resize(360, 640)

    def call(self, method: str, **params: Any) -> Any:
        """A command of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                data = os.read(self._reader, 1 << 16)
                assert data, "the browser has gone"
                self._rest += data
            raw, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(raw)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def resize(self, width: int, height: int) -> None:
        """Give the page a screen of so many pixels; a narrow one is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> Any:
        """Wait for an expression to be true; one that fails is not: the page may yet load."""
        end = time.monotonic() + seconds
        patient = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        while not (value := self.evaluate(patient)):
            assert time.monotonic() < end, expression
            time.sleep(0.05)
        return value

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key that writes nothing; modifiers: 2 is Ctrl, 8 Shift."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)


@contextmanager
def browsing(folder: Path) -> Iterator[Tab]:
    """A new browser with a profile in `folder`."""
    assert CHROMIUM
    to_browser, writer = os.pipe()
    reader, from_browser = os.pipe()
    command = [
        *(CHROMIUM, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
        *("--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"),
        f"--user-data-dir={folder / 'profile'}",
    ]
    wrapper = [sys.executable, "-c", WRAPPER, str(to_browser), str(from_browser), *command]
    process = subprocess.Popen(
        wrapper, pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Tab(reader, writer)
    finally:
        process.terminate()
        process.wait(20)
        os.close(reader)
        os.close(writer)
