"""A browser without a window, driven by the WebDriver protocol: what a person does with mouse, keys and files."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how the protocol marks an element


class Browser:
    """A session of chromedriver."""

    def __init__(self, address: str) -> None:
        self._address = address

    def call(self, method: str, path: str, **values: Any) -> Any:
        data = json.dumps(values).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self._address}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, address: str) -> None:
        self.call("POST", "/url", url=address)

    def run(self, script: str, *args: Any) -> Any:
        """What a script returns."""
        return self.call("POST", "/execute/sync", script=script, args=list(args))

    def wait(self, script: str, seconds: float = 30) -> Any:
        """What an expression is, as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < end, f"{script}; the page says {self.text('body')!r}"
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def element(self, selector: str) -> str:
        return str(self.call("POST", "/element", using="css selector", value=selector)[_ELEMENT])

    def click(self, selector: str) -> None:
        self.call("POST", f"/element/{self.element(selector)}/click")

    def keys(self, selector: str, keys: str) -> None:
        """Press keys on an element; the name of a file on an input of files."""
        self.call("POST", f"/element/{self.element(selector)}/value", text=keys)

    def mouse(self, selector: str, *places: tuple[float, float], press: bool = False) -> None:
        """Move to places within an element, as shares of its width and height; with ``press`` draw a stroke."""
        box = self.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.x, b.y, b.width, b.height]",
            selector,
        )
        steps: list[dict[str, Any]] = []
        for index, (x, y) in enumerate(places):
            to = {"x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
            steps.append({"type": "pointerMove", "duration": 20, "origin": "viewport", **to})
            if press and index == 0:
                steps.append({"type": "pointerDown", "button": 0})
        if press:
            steps.append({"type": "pointerUp", "button": 0})
        self.call("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "actions": steps}])

    def picture(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Errors of the page's console so far."""
        found = self.call("POST", "/se/log", type="browser")
        return [entry["message"] for entry in found if entry["level"] == "SEVERE"]


@contextmanager
def browser(
    driver: str, binary: str, profile: Path, *, dark: bool = False, size: str = "1280,800"
) -> Iterator[Browser]:
    """Start a browser; its files are in ``profile``."""
    with subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = next(
                filter(
                    None, (re.search(r"started successfully on port (\d+)", line) for line in process.stdout)
                )
            )
            address = f"http://127.0.0.1:{found[1]}/session"
            arguments = [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--window-size={size}",
                f"--user-data-dir={profile}",
            ]
            arguments += [
                "--no-first-run",
                "--disable-background-networking",
                *(["--force-dark-mode"] if dark else []),
            ]
            options = {"binary": binary, "args": arguments}
            wanted = {
                "alwaysMatch": {
                    "browserName": "chrome",
                    "goog:chromeOptions": options,
                    "goog:loggingPrefs": {"browser": "ALL"},
                }
            }
            key = Browser(address).call("POST", "", capabilities=wanted)["sessionId"]
            session = Browser(f"{address}/{key}")
            try:
                yield session
            finally:
                session.call("DELETE", "")
        finally:
            process.terminate()
