"""Drives headless Chromium over a pipe, by the DevTools protocol: real keys, screenshots, dark and light.

Source: https://chromedevtools.github.io/devtools-protocol/. Messages are JSON, each ended by a zero byte.
"""

import base64
import fcntl
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.chromium import FLAGS, program

_WAIT_S: Final = 60.0
_TICK_S: Final = 0.05
_STOP_S: Final = 60.0
_LOW_FD: Final = 10  # Chromium reads from 3 and writes to 4, so our ends of the pipes are above
# The keys that a person without a mouse uses: their Windows codes, and the text that they type.
_KEYS: Final = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
    "ArrowUp": (38, ""),
    "ArrowDown": (40, ""),
    "End": (35, ""),
}
_SHIFT: Final = 8


class PageError(Exception):
    """The page's script failed, or Chromium refused a command."""


class Page:
    """One tab. Not for several threads."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        """Attach to a new tab, over the two ends of pipes."""
        self._to, self._from = to_browser, from_browser
        self._number, self._rest, self._session = 0, b"", ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.size(1280, 900)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                if "error" in told:
                    raise PageError(f"{method}: {told['error']}")
                return dict(told["result"])

    def open(self, url: str) -> None:
        """Go to a page and wait until its document is complete."""
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Evaluate an expression and return its value; a promise is awaited.

        Raises:
            PageError: it threw.
        """
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise PageError(told["exceptionDetails"].get("exception", {}).get("description", "an error"))
        return told["result"].get("value")

    def wait(self, script: str) -> Any:
        """Evaluate an expression until it is true, a minute at most; return its value (of an element: true).

        Raises:
            TimeoutError: it never was.
        """
        deadline_s = time.monotonic() + _WAIT_S
        # An element has no value that could be sent.
        while not (value := self.run(f"(value => value instanceof Node || value)({script})")):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{script} is still {value!r}; the page says: {self.run('document.body.innerText')}")
            time.sleep(_TICK_S)
        return value

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        code, text = _KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": _SHIFT if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Insert text where the caret is."""
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int) -> None:
        """Set the window's size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path: Path, *, is_whole: bool = False) -> None:
        """Write a PNG of what is in the window, or of the whole page."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole, **self._clip(is_whole))
        path.write_bytes(base64.b64decode(told["data"]))

    def _clip(self, is_whole: bool) -> dict[str, Any]:  # noqa: FBT001  (of the method above)
        if not is_whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _next(self) -> dict[str, Any]:
        """Return the next message; events are among them."""
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], _WAIT_S)[0]:
                raise TimeoutError("Chromium does not answer")
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise PageError("Chromium has ended")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def driving() -> Iterator[Page]:
    """Start headless Chromium with one tab; it ends with the block.

    Raises:
        FileNotFoundError: there is no Chromium here; the message says how to get one.
    """
    its_input, to_browser = _pipe()
    from_browser, its_output = _pipe()
    with tempfile.TemporaryDirectory(prefix="headrace-chromium-", ignore_cleanup_errors=True) as profile:
        # bash, because sh has no names for files from 10 on.
        script = f'exec "$@" 3<&{its_input} 4>&{its_output}'
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", program(), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(its_input, its_output),
            start_new_session=True,
        )
        os.close(its_input)
        os.close(its_output)
        try:
            yield Page(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(_STOP_S)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe for reading and writing, both above the low numbers."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _LOW_FD) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
