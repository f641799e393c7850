"""Following a long-running operation of a server to its end, with a progress line."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.terminal import ProgressLine, printable

LOOK_SECONDS: Final = 1.0
"""How often the server is asked how far it is."""
ACTIVE: Final = ("notStarted", "running")
"""Statuses of operations that have not ended."""


def operation(client: JsonClient, operation_id: str) -> Record:
    """All that is known of an operation. Raises RequestRefused."""
    found: Record = client.told("GET", f"/operations/{operation_id}?details=true", "the operation")
    return found


def follow(client: JsonClient, operation_id: str) -> Record:
    """Show a progress line until the operation ends; its last record."""
    records = looks(client, operation_id)
    newest = _Newest(next(records))
    with ProgressLine(printable(str(newest.record.get("type", "operation"))), lambda: newest):
        for newest.record in records:
            pass
    return newest.record


def follow_as_json(client: JsonClient, operation_id: str) -> Record:
    """Print the record whenever it has changed, until the operation ends; the last one."""
    newest: Record = {}
    for record in looks(client, operation_id):
        if record != newest:
            print_json(record)
        newest = record
    return newest


def looks(client: JsonClient, operation_id: str) -> Iterator[Record]:
    """The operation's record now, and every second until it has ended."""
    record = operation(client, operation_id)
    yield record
    while record.get("status") in ACTIVE:
        time.sleep(LOOK_SECONDS)
        record = operation(client, operation_id)
        yield record


def succeeded(record: Record) -> bool:
    """Whether the operation has ended as it should; v1 calls that completed (operations.md §1)."""
    return record.get("status") in ("succeeded", "completed")


def status_text(record: Record) -> str:
    """The status, and whether the operation is to be cancelled."""
    status = str(record.get("status", "unknown"))
    return f"{status}, to be cancelled" if status in ACTIVE and record.get("cancelRequested") else status


def percent_text(record: Record) -> str:
    """How far it is; empty where that is not told."""
    percent = record.get("percentComplete")
    return f"{percent} %" if isinstance(percent, int) else ""


@dataclass(slots=True)
class _Newest:
    """The newest that is known of an operation, for the progress line."""

    record: Record

    @property
    def part(self) -> float | None:
        percent = self.record.get("percentComplete")
        return percent / 100 if isinstance(percent, int) else None

    def line(self, seconds: float) -> str:
        return " ".join(text for text in (percent_text(self.record), status_text(self.record)) if text)
