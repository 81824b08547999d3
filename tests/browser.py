"""A headless Chromium for the tests of our pages, driven over its debugging pipe: no port, no package, no network.

The protocol is JSON with a NUL after each message (Chrome DevTools Protocol, `--remote-debugging-pipe`: file descriptor 3
is read by the browser, 4 is written).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KEYS = {"Enter": 13, "Escape": 27, "Home": 36, "End": 35, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, " ": 32}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
BECOME = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""A process that becomes the browser, with the pipes where it looks for them."""


def chromium() -> str | None:
    """The browser's program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser with one page; `errors` and `requests` are what the page said and fetched since it was opened."""

    def __init__(self, program: str, profile: Path) -> None:
        self.number, self.buffer, self.session = 0, b"", ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded = 0
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]  # away from 3 and 4
        command = [sys.executable, "-c", BECOME, *map(str, ends), program, *FLAGS]
        command += [f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=ends, **quiet)
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        [target] = [it for it in self.ask("Target.getTargets")["targetInfos"] if it["type"] == "page"]
        asked = {"targetId": target["targetId"], "flatten": True}
        self.session = self.ask("Target.attachToTarget", **asked)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self.session = ""
        self.ask("Browser.close")
        self.process.wait(10)
        os.close(self.ours_in)
        os.close(self.ours_out)

    # ------------------------------------------------------------ the protocol

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(30)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _next(self, seconds: float) -> dict[str, Any]:
        """The next message; an event is noted."""
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.ours_in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            found = os.read(self.ours_in, 1 << 20)
            assert found, "the browser has ended"
            self.buffer += found
        text, _, self.buffer = self.buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(told["args"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(json.dumps(told["entry"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Page.loadEventFired":
            self.loaded += 1

    # ------------------------------------------------------------ what a reader does

    def open(self, page: Path, at: str = "") -> None:
        """Open a file and wait until it is loaded."""
        self.ask("Page.navigate", url="about:blank")
        self.errors.clear()
        self.requests.clear()
        before = self.loaded
        self.ask("Page.navigate", url=page.as_uri() + at)
        while self.loaded < before + 1 or self.look("document.readyState") != "complete":
            self.look("0")
        while self.look("location.href") == "about:blank":
            time.sleep(0.01)

    def look(self, expression: str) -> Any:
        """The value of an expression of the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 5) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not self.look(condition):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that a selector finds and that are shown."""
        shown = f"[...document.querySelectorAll({json.dumps(selector)})].filter(it => it.checkVisibility())"
        return list(self.look(f"{shown}.map(it => it.innerText.trim())"))

    def click(self, selector: str) -> None:
        """Press the mouse on the middle of an element."""
        box = self.look(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.scrollIntoView({{block: 'center'}});"
            " const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        code = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.ask("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.look(f"document.querySelector({json.dumps(selector)}).select()")
        self.ask("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.look(
            f"({field}.value = {json.dumps(value)}, {field}.dispatchEvent(new Event('change', {{bubbles: true}})))"
        )
