"""What ``make run`` says at the end; tests/acceptance/test_demo.py runs it."""

import io

import httpx
from rich.console import Console

from hounsfield.cli.demo import _summary

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
