"""Chromium without a window, driven over the DevTools protocol: pages, clicks, screenshots, and what was asked for."""

import base64
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.peers.process import running, unavailable

SECONDS = 120
"""How long a page may take for what a test waits for: the first start compiles 20 MB of scripts on a busy machine."""
POLL_SECONDS = 0.2

Json = dict[str, Any]


@dataclass
class Exchange:
    """One request of a page or of one of its workers, and the answer to it."""

    url: str
    kind: str
    """Document, Script, Fetch, XHR…"""
    status: int = 0
    """0 while, or because, there is no answer."""
    media_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""

    @property
    def is_local(self) -> bool:
        """Whether no network was needed."""
        return self.url.startswith(("data:", "blob:"))


class Page:
    """A tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0
        self._requests: dict[tuple[str, str], Exchange] = {}
        self.complaints: list[str] = []
        """Errors the browser reports: refused by policy, thrown and not caught, said by the page."""
        self._target = self._call("Target.createTarget", {"url": "about:blank"}, session="")["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": self._target, "flatten": True}, session="")
        self._session: str = attached["sessionId"]
        self._watch(self._session)
        self._call("Page.enable")

    def _watch(self, session: str) -> None:
        # Workers wait until somebody listens to them, so that no request of theirs is missed.
        for method in ("Network.enable", "Log.enable", "Runtime.enable"):
            self._send(method, {}, session)
        attach = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        self._send("Target.setAutoAttach", attach, session)
        self._send("Runtime.runIfWaitingForDebugger", {}, session)

    @property
    def exchanges(self) -> list[Exchange]:
        """Everything asked for so far."""
        return list(self._requests.values())

    def close(self) -> None:
        """Close the tab."""
        self._call("Target.closeTarget", {"targetId": self._target}, session="")

    @property
    def violations(self) -> list[str]:
        """What the page wanted to do and its Content-Security-Policy does not let it."""
        return [text for text in self.complaints if "Content Security Policy" in text]

    def before_each_document(self, script: str) -> None:
        """Have a script run first in all that is opened from now on."""
        self._call("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def open(self, url: str) -> None:
        """Go to an address; returns at once."""
        self._call("Page.navigate", {"url": url})

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = SECONDS) -> Any:
        """The value of the expression once it is true."""
        deadline = time.monotonic() + seconds
        while True:
            # A page on its way to another address has no context to evaluate anything in.
            with contextlib.suppress(RefusedByBrowser):
                if value := self.evaluate(expression):
                    return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {expression}\n{self.text()[:2000]}\n{self.complaints}")
            time.sleep(POLL_SECONDS)

    def asks(self, text: str, seconds: float = SECONDS) -> None:
        """Returns once an address with ``text`` in it has been asked for."""
        deadline = time.monotonic() + seconds
        while not any(text in exchange.url for exchange in self.exchanges):
            assert time.monotonic() < deadline, f"not within {seconds} s: {text}"
            self.evaluate("0")  # takes in what has happened
            time.sleep(POLL_SECONDS)

    def text(self) -> str:
        """The words on the page."""
        return str(self.evaluate("document.body.innerText"))

    def shows(self, text: str) -> None:
        """Returns once the words are on the page."""
        self.wait_for(f"document.body !== null && document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str, times: int = 1) -> None:
        """Click into the middle of the first element that fits, once it is there."""
        box = self.box(selector)
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left"}
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self._call("Input.dispatchMouseEvent", {**place, "type": kind, "clickCount": count})

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self._call("Input.insertText", {"text": text})

    def key(self, name: str) -> None:
        """Press and release a key that writes nothing."""
        for kind in ("rawKeyDown", "keyUp"):
            codes = {"ArrowDown": 40, "ArrowUp": 38}
            values = {"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
            self._call("Input.dispatchKeyEvent", values)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is on the screen, in pixels, once it is there."""
        found: dict[str, float] = self.wait_for(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); if (!found) return null;"
            "found.scrollIntoView({block: 'nearest'});"
            "const {x, y, width, height} = found.getBoundingClientRect();"
            "return width && height ? {x, y, width, height} : null; })()"
        )
        return found

    def screenshot(self, box: Mapping[str, float] | None = None) -> bytes:
        """What is to be seen, or the part in ``box``, as PNG."""
        clip = {} if box is None else {"clip": {**box, "scale": 1}}
        return base64.b64decode(self._call("Page.captureScreenshot", {"format": "png", **clip})["data"])

    def _send(self, method: str, parameters: Json, session: str) -> int:
        self._last += 1
        message: Json = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._connection.send(json.dumps(message))
        return self._last

    def _call(self, method: str, parameters: Json | None = None, session: str | None = None) -> Json:
        """What the browser answers; events that come before are taken in."""
        number = self._send(method, parameters or {}, self._session if session is None else session)
        while True:
            message: Json = json.loads(self._connection.recv(SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise RefusedByBrowser(f"{method}: {message['error']['message']}")
                result: Json = message["result"]
                return result
            if "method" in message:
                self._take_in(message["method"], message["params"], message.get("sessionId", ""))

    def _take_in(self, event: str, values: Json, session: str) -> None:
        key = (session, values.get("requestId", ""))
        match event:
            case "Target.attachedToTarget":
                if values["targetInfo"]["type"] != "page":
                    self._watch(values["sessionId"])
            case "Network.requestWillBeSent":
                self._requests[key] = Exchange(values["request"]["url"], values.get("type", ""))
            case "Network.responseReceived" if key in self._requests:
                answer, exchange = values["response"], self._requests[key]
                exchange.status, exchange.media_type = answer["status"], answer["mimeType"]
                exchange.headers = {name.lower(): value for name, value in answer["headers"].items()}
            case "Network.loadingFailed" if key in self._requests:
                self._requests[key].failure = values.get("blockedReason") or values["errorText"]
            case "Log.entryAdded" if values["entry"]["level"] == "error":
                self.complaints.append(values["entry"]["text"])
            case "Runtime.consoleAPICalled" if values["type"] == "error":
                said = [str(item.get("value", item.get("description", ""))) for item in values["args"]]
                self.complaints.append(" ".join(said))
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))


class RefusedByBrowser(Exception):
    """The browser could not do what it was told."""


@dataclass(frozen=True)
class Browser:
    """A running Chromium."""

    address: str

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab."""
        # Screenshots and long answers come as one message.
        with connect(self.address, max_size=None, open_timeout=SECONDS) as connection:
            page = Page(connection)
            try:
                yield page
            finally:
                page.close()


@contextmanager
def chromium(directory: Path, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Chromium with a profile of its own, cut off from every host but this one."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        unavailable("Chromium is not installed")
    profile = directory / "profile"
    port_file = profile / "DevToolsActivePort"
    command = [
        program,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-extensions",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
        "--window-size=1280,720",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        *arguments,
        "about:blank",
    ]
    with running(command, directory / "chromium.log", port_file.exists):
        port, path = port_file.read_text().split()
        yield Browser(f"ws://127.0.0.1:{port}{path}")
