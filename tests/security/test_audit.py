"""The audit log: its entries, and how they are written (server.md §10)."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hounsfield.errors import BadRequest
from hounsfield.security import audit
from hounsfield.security.audit import Audit, AuditLog, AuditOptions

OPTIONS = AuditOptions(
    audience="aud",
    authority="https://login.example",
    header_prefix="x-ms-azuredicom-audit-",
    claims=["sub", "groups", "absent"],
)
URI = "https://pacs.example/v2/studies?PatientName=A%0d"


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read().splitlines()]

    def read(self) -> bytes:
        content = b""
        while True:
            try:
                piece = os.read(self.reading, 1 << 20)
            except BlockingIOError:
                return content
            if not piece:
                return content
            content += piece


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    found = Pipe()
    yield found
    for descriptor in (found.reading, found.writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def entries(pipe: Pipe, headers: list[tuple[str, str]], status: int | None = 200, **claims: object) -> list[Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    record = Audit(AuditLog(pipe.writing), OPTIONS).record("query", URI, raw, "10.0.0.7", claims)
    assert record is not None
    record.executing()
    record.executed(status)
    return pipe.lines()


async def test_two_entries_an_action(pipe: Pipe) -> None:
    before, after = entries(pipe, [("accept", "*/*")], 404, sub="ann", groups=["a", "b", 7], secret="no")
    assert before.pop("ActionType") == "Executing"
    assert after.pop("ActionType") == "Executed"
    assert "StatusCode" not in before
    assert after.pop("StatusCode") == 404
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", before.pop("Timestamp"))
    after.pop("Timestamp")
    assert before == after
    assert re.fullmatch(r"[0-9a-f]{32}", before.pop("CorrelationId"))
    assert before == {
        "Category": "AuditEvent",
        "EventType": "AuditEvent",
        "Action": "query",
        "RequestUri": URI,
        "Audience": "aud",
        "Authority": "https://login.example",
        "CallerIpAddress": "10.0.0.7",
        "Claims": "sub=ann;groups=a;groups=b;groups=7",
        "CustomHeaders": "",
    }


async def test_no_answer_has_no_status(pipe: Pipe) -> None:
    assert entries(pipe, [], None)[1]["StatusCode"] is None


async def test_custom_headers(pipe: Pipe) -> None:
    headers = [("x-ms-azuredicom-audit-site", "north"), ("x-other", "no"), ("x-ms-azuredicom-audit-2", "a=b")]
    assert entries(pipe, headers)[0]["CustomHeaders"] == "x-ms-azuredicom-audit-site=north;x-ms-azuredicom-audit-2=a=b"


async def test_limits_of_custom_headers(pipe: Pipe) -> None:
    name = "x-ms-azuredicom-audit-"
    assert len(entries(pipe, [(f"{name}{number}", "v" * 2048) for number in range(10)])) == 2
    with pytest.raises(BadRequest, match="10"):
        entries(pipe, [(f"{name}{number}", "v") for number in range(11)])
    with pytest.raises(BadRequest, match="2048"):
        entries(pipe, [(f"{name}a", "v" * 2049)])
    assert pipe.lines() == []


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("00-" + "ab" * 16 + "-" + "1" * 16 + "-01", True),
        ("cc-" + "ab" * 16 + "-" + "1" * 16 + "-01-more", True),
        ("00-" + "0" * 32 + "-" + "1" * 16 + "-01", False),
        ("00-" + "AB" * 16 + "-" + "1" * 16 + "-01", False),
        ("x", False),
    ],
)
async def test_the_trace_of_the_caller_goes_on(pipe: Pipe, header: str, kept: bool) -> None:
    found = entries(pipe, [("traceparent", header)])[0]["CorrelationId"]
    assert (found == "ab" * 16) is kept
    assert re.fullmatch(r"[0-9a-f]{32}", found)


def test_a_file_takes_lines_of_any_length(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        log = AuditLog(file.fileno())
        log.write(msgspec.json.encode({"a": "x" * 100_000}))
        log.write(msgspec.json.encode({"a": 1}))
    first, second = (tmp_path / "log").read_bytes().splitlines()
    assert len(json.loads(first)["a"]) == 100_000
    assert json.loads(second) == {"a": 1}


async def test_a_reader_that_has_stopped_reading_stops_nobody(pipe: Pipe) -> None:
    """The one thing that must not happen: a server that waits for its log."""
    log = AuditLog(pipe.writing)
    for number in range(1000):
        log.write(msgspec.json.encode({"n": number, "padding": "x" * 500}))
    found = pipe.read()
    while found.count(b"\n") < 1000:
        await asyncio.sleep(audit.RETRY_SECONDS)
        piece = pipe.read()
        assert piece, "what had to wait is written once there is room"
        found += piece
    assert [json.loads(line)["n"] for line in found.splitlines()] == list(range(1000))


async def test_lost_entries_are_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING_BYTES", 200_000)
    log = AuditLog(pipe.writing)
    for number in range(1000):
        log.write(msgspec.json.encode({"n": number, "padding": "x" * 500}))
    found = pipe.read()
    for _ in range(10):
        await asyncio.sleep(audit.RETRY_SECONDS)
        found += pipe.read()
    log.write(msgspec.json.encode({"n": 1000}))
    found += pipe.read()
    *written, note, last = (json.loads(line) for line in found.splitlines())
    assert [line["n"] for line in written] == list(range(len(written)))
    assert note["LostEntries"] == 1000 - len(written)
    assert last == {"n": 1000}


def test_a_reader_that_is_gone(pipe: Pipe) -> None:
    log = AuditLog(pipe.writing)
    os.close(pipe.reading)
    for number in range(10):
        log.write(msgspec.json.encode({"n": number}))
