"""What ``make run`` says at the end; tests/acceptance/test_demo.py runs it."""

import io
import subprocess
import sys

import httpx
import pytest
from rich.console import Console

from hounsfield.cli.demo import DemoFailed, _environment, _summary, _wait_for_cast

ROOT = "http://127.0.0.1:8080"


def test_names_are_shown_as_they_are() -> None:
    """Brackets are no markup, control codes do not reach the terminal."""
    study = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe[/b]^[red]Jane\x1b[2J"}]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    }
    documents = {"/statistics": {"studies": 1, "instances": 1}, "/v2/studies": [study], "/viewer/": {}}
    client = httpx.Client(
        base_url=ROOT,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=documents[request.url.path])),
    )
    output = io.StringIO()
    _summary(Console(file=output, width=200, highlight=False), client, ROOT)
    assert "Doe[/b]^[red]Jane\N{REPLACEMENT CHARACTER}[2J" in output.getvalue()
    assert "\x1b" not in output.getvalue()
    assert f"{ROOT}/viewer/1.2.3" in output.getvalue()


@pytest.mark.parametrize("key", ["DicomServer:Security:Enabled", "DicomServer:Features:EnableDataPartitions"])
def test_settings_that_do_not_go_with_samples(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key.replace(":", "__"), "true")
    with pytest.raises(DemoFailed, match=key):
        _environment()


def test_a_cast_that_is_off_is_not_waited_for() -> None:
    documents = {"/cast/status": {"enabled": False, "syncedSequence": None}, "/v2/changefeed/latest": {"sequence": 17}}
    client = httpx.Client(
        base_url=ROOT,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=documents[request.url.path])),
    )
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        _wait_for_cast(client, server)
        server.kill()
