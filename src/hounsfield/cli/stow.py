"""One STOW-RS request (PS3.18 §10.5): the multipart body, streamed from sources, and what the answer says of each."""

import contextlib
import json
import os
import select
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import IO, Any, Final

from hounsfield.cli.connection import Answer, AnsweredEarly, Stopped
from hounsfield.cli.sources import Source, Unreadable, open_source, read_exactly
from hounsfield.cli.terminal import printable
from hounsfield.dicom import uid

CHUNK: Final = 256 * 1024
"""Bytes read, joined and sent at once where the kernel cannot copy by itself."""
SENDFILE_CHUNK: Final = 8 * 1024 * 1024
"""Bytes handed to the kernel at once: between two of these we look whether to stop, and count."""

ALREADY_STORED: Final = 45070
"""FailureReason 0xB00E: this instance exists (store.md §5)."""
_REASONS: Final = {
    0x0110: "the server failed to store it",
    0x0122: "the server does not accept this SOP class",
    0x0124: "not authorised for this object",
    0xA700: "the server is out of resources",
    0xB00F: "this instance is being stored by someone else at the moment",
    0xC122: "the server does not accept this transfer syntax",
}
"""PS3.18 Table 10.5.3-2 and store.md §5."""


class Outcome(Enum):
    """What became of one source."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored with a warning"
    ALREADY_STORED = "already there"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one source; ``reason`` is for rejected ones."""

    source: Source
    outcome: Outcome
    reason: str = ""


@dataclass(slots=True)
class StowBody:
    """The multipart/related body with these sources as its parts. Raises Unreadable (of a source) and Stopped."""

    sources: Sequence[Source]
    stop: threading.Event
    sent: Callable[[int], None]
    """Told the number of bytes as they leave."""
    _boundary: str = field(default_factory=lambda: f"hounsfield-{os.urandom(16).hex()}")

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that belong to this body."""
        parts = sum(source.size + len(self._part_head) + 2 for source in self.sources)
        return {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={self._boundary}',
            "Content-Length": str(parts + len(self._end)),
            "Accept": "application/dicom+json",
        }

    @property
    def _part_head(self) -> bytes:
        return f"--{self._boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def send(self, sock: socket.socket) -> None:
        """Writes the body; small files are joined into larger writes, large ones copied by the kernel."""
        head, pending, size = self._part_head, [], 0
        for source in self.sources:
            with open_source(source) as file:
                pending.append(head)
                if source.on_disk and source.size > CHUNK and type(sock) is socket.socket:
                    self._flush(sock, pending)
                    self._send_file(sock, source, file)
                else:
                    for chunk in read_exactly(source, file, CHUNK):
                        pending.append(chunk)
                        size += len(chunk)
                        if size >= CHUNK:
                            self._flush(sock, pending)
                            size = 0
                pending.append(b"\r\n")
        pending.append(self._end)
        self._flush(sock, pending)

    def _flush(self, sock: socket.socket, pending: list[bytes]) -> None:
        self._look(sock)
        data = b"".join(pending)
        pending.clear()
        sock.sendall(data)
        self.sent(len(data))

    def _send_file(self, sock: socket.socket, source: Source, file: IO[bytes]) -> None:
        offset = 0
        while offset < source.size:
            self._look(sock)
            sent = sock.sendfile(file, offset, min(SENDFILE_CHUNK, source.size - offset))
            if not sent:
                next(read_exactly(source, file, 1))  # raises the error for a file that ends early
            offset += sent
            self.sent(sent)

    def _look(self, sock: socket.socket) -> None:
        if self.stop.is_set():
            raise Stopped
        if type(sock) is socket.socket and select.select([sock], [], [], 0)[0]:
            raise AnsweredEarly("the server answered before the request was complete")


def verdicts(answer: Answer, sources: Sequence[Source]) -> tuple[list[Verdict], list[Source]]:
    """What a 200, 202 or 409 says (store.md §5): the verdicts, and the sources of which it says nothing certain.

    One source needs no matching, nor do several that are all stored. Otherwise items are matched by the SOP Instance
    UIDs in the files' headers. Left over are, for instance, files that the server could not read and so cannot
    name: sent alone, each gets its verdict.
    """
    stored, failed = _items(answer)
    if not stored and not failed and answer.status in (200, 202):
        return [Verdict(source, Outcome.STORED) for source in sources], []  # a server that says nothing more
    if len(sources) == 1:
        items = failed or stored
        if items:
            return [_verdict(sources[0], items[0], bool(failed))], []
        return [Verdict(sources[0], Outcome.REJECTED, answer.sentence or f"HTTP {answer.status} without a reason")], []
    if not failed and len(stored) == len(sources):
        return [_verdict(source, item, failed=False) for source, item in zip(sources, stored, strict=True)], []
    return _matched(sources, stored, failed)


def _matched(sources: Sequence[Source], stored: list[Any], failed: list[Any]) -> tuple[list[Verdict], list[Source]]:
    items: dict[str, list[tuple[Any, bool]]] = defaultdict(list)
    for is_failed, some in ((False, stored), (True, failed)):
        for item in some:
            items[uid.normalise(str(_value(item, "00081155") or ""))].append((item, is_failed))
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        groups[_sop_instance_uid(source)].append(source)
    found: list[Verdict] = []
    doubtful: list[Source] = []
    for name, group in groups.items():
        if not name or len(items[name]) != len(group):
            doubtful += group
            continue
        of_group = [_verdict(source, *item) for source, item in zip(group, items[name], strict=True)]
        rejected = sum(verdict.outcome is Outcome.REJECTED for verdict in of_group)
        if 0 < rejected < len(group):  # of copies in one request nobody can tell which one was refused
            doubtful += group
        else:
            found += of_group
    return found, doubtful


def _verdict(source: Source, item: Any, failed: bool) -> Verdict:
    if not failed:
        warned = _value(item, "00081196") is not None
        return Verdict(source, Outcome.STORED_WITH_WARNING if warned else Outcome.STORED)
    reason = _value(item, "00081197")
    if reason == ALREADY_STORED:
        return Verdict(source, Outcome.ALREADY_STORED)
    return Verdict(source, Outcome.REJECTED, _reason_text(reason, item))


def _reason_text(reason: Any, item: Any) -> str:
    if not isinstance(reason, int):
        return "the server gave no reason"
    if reason in _REASONS:
        text = _REASONS[reason]
    elif reason >> 8 == 0xA9:
        text = "it cannot be read or breaks a rule of the server"
    elif reason >> 12 == 0xC:
        text = "the server cannot make sense of it"
    else:
        text = "refused"
    comments = [_value(comment, "00000902") for comment in _sequence(item, "00741048")]
    said = "; ".join(comment for comment in comments if isinstance(comment, str))
    return printable(f"{text} ({reason}){': ' if said else ''}{said}", 500)


def _items(answer: Answer) -> tuple[list[Any], list[Any]]:
    """The stored and the failed items of the response dataset; none for a body that is not DICOM JSON."""
    dataset: Any = None
    with contextlib.suppress(ValueError):
        dataset = json.loads(answer.body)
    if isinstance(dataset, list) and dataset:  # some servers wrap it
        dataset = dataset[0]
    return _sequence(dataset, "00081199"), _sequence(dataset, "00081198")


def _sequence(dataset: Any, tag: str) -> list[Any]:
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        return list(dataset[tag].get("Value") or [])
    return []


def _value(dataset: Any, tag: str) -> Any:
    return next(iter(_sequence(dataset, tag)), None)


def _sop_instance_uid(source: Source) -> str:
    from hounsfield.cli.identifiers import read_identifiers  # imports pydicom, which mostly nobody needs

    try:
        with open_source(source) as file:
            return read_identifiers(file).instance
    except Unreadable:
        return ""
