"""A browser without a window, which tests drive by its own protocol (DevTools) through two pipes."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "there is no Chromium here (Debian: apt-get install chromium)"
_FLAGS = (
    *("--headless", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe"),
    *(f"--disable-{each}" for each in ("gpu", "quic", "background-networking", "component-update", "sync")),
)
_ABOVE = 10  # descriptors that cannot be the two which the browser takes, 3 and 4
# Runs in the page: a promise of the milliseconds from the start of loading until it is painted.
_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


class Browser:
    """A browser; a context manager.

    Args:
      folder: an empty one for its profile.

    Attributes:
      requests: the address of everything that pages have asked for since the last `open`.
      errors: what went wrong in their scripts since then, a text each.
    """

    def __init__(self, folder: pathlib.Path):
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._count, self._rest, self._session = 0, b"", None
        (reads, self._writes), (self._reads, writes) = os.pipe(), os.pipe()
        given = [fcntl.fcntl(each, fcntl.F_DUPFD, _ABOVE) for each in (reads, writes)]
        command = [PROGRAM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        script = f'exec "$@" 3<&{given[0]} 4>&{given[1]}'
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(["bash", "-c", script, "bash", *command], pass_fds=given, **quiet)
        for each in (reads, writes, *given):
            os.close(each)

    def __enter__(self) -> "Browser":
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._writes)
        os.close(self._reads)

    def open(self, path: pathlib.Path, width: int = 1400, height: int = 1000) -> float:
        """Opens a file in a window of a size in pixels; returns the seconds until it was drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self.requests, self.errors = [], []
        self._call("Page.navigate", url=path.as_uri())
        while not self.run("document.readyState === 'complete' && location.href !== 'about:blank'"):
            pass
        return self.run(_DRAWN) / 1000

    def run(self, script: str) -> Any:
        """Returns the value of an expression, or of its promise, in the page."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._reads, 2**16)
            assert block, "the browser has ended"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        kind, parameters = event.get("method"), event.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif kind == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
