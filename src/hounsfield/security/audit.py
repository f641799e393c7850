"""The audit log: two JSON lines an action on standard error, before it and after it (server.md §10).

The lines hold the whole URL and so may hold patient data; what else the server logs never does.
"""

import asyncio
import os
import re
import select
import stat
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from hounsfield.errors import BadRequest

STANDARD_ERROR = 2
MAX_CUSTOM_HEADERS = 10
MAX_CUSTOM_HEADER_CHARACTERS = 2048
ATOMIC_BYTES = select.PIPE_BUF
"""A pipe that is ready takes as much without making the writer wait, in one piece."""
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Lines kept for a reader that has stopped reading; further ones are counted and lost, as the server must go on."""
RETRY_SECONDS = 0.1

EXECUTING = b"Executing"
EXECUTED = b"Executed"
_ENTRY = b'{"Timestamp":"%b","Category":"AuditEvent","ActionType":"%b",%b%b}'
"""When, which of the two, what they have in common, what only one has."""

_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = b"0" * 32


class AuditLog:
    """Writes whole lines to a file descriptor, and never makes a request wait for whoever reads it."""

    def __init__(self, descriptor: int = STANDARD_ERROR) -> None:
        self._descriptor = descriptor
        # A file takes every line at once; anything else may have a slow reader.
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._is_scheduled = False

    def write(self, entry: bytes, *, at_once: bool = True) -> None:
        """Append an entry, a JSON object; one that is not to be written ``at_once`` goes with the next, RETRY_SECONDS
        later at most.

        Most actions are over by then, and every write lets other threads have the interpreter.
        """
        if self._lost and not self._waiting:
            lost, self._lost = self._lost, 0
            self._append(b'{"Timestamp":"%b","Category":"AuditEvent","LostEntries":%d}' % (_now(), lost))
        self._append(entry)
        if at_once:
            self._flush()
        else:
            self._flush_later()

    def _append(self, entry: bytes) -> None:
        line = entry + b"\n"
        if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self._lost += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _flush(self) -> None:
        try:
            while self._waiting and (self._is_file or self._ready.poll(0)):
                piece = self._next_piece()
                self._written(os.write(self._descriptor, piece))
        except OSError:
            # Nobody reads any more, or the disk is full: there is no other place to say so.
            self._lost += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        if self._waiting:
            self._flush_later()

    def _next_piece(self) -> bytes:
        """The lines that can be written together, or the beginning of one that is too long for that."""
        if len(self._waiting) == 1 or self._is_file:
            lines = b"".join(self._waiting)
            return lines if self._is_file else lines[:ATOMIC_BYTES]
        size, count = 0, 0
        for line in self._waiting:
            if size + len(line) > ATOMIC_BYTES:
                break
            size += len(line)
            count += 1
        return b"".join(islice(self._waiting, count)) if count else self._waiting[0][:ATOMIC_BYTES]

    def _written(self, count: int) -> None:
        self._waiting_bytes -= count
        while self._waiting and count >= len(self._waiting[0]):
            count -= len(self._waiting.popleft())
        if count:
            self._waiting[0] = self._waiting[0][count:]

    def _flush_later(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._is_scheduled = False
        self._flush()


def _now() -> bytes:
    second, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return b"%b.%06dZ" % (_to_the_second(second), microseconds)


@lru_cache(maxsize=2)
def _to_the_second(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What stands in every entry. ``header_prefix``, in lower case, begins request headers that are copied into it."""

    audience: str = ""
    authority: str = ""
    header_prefix: str = "x-ms-azuredicom-audit-"
    claims: Sequence[str] = ()


class AuditRecord:
    """The two entries of one action. ``fields`` is what they have in common: members of a JSON object."""

    __slots__ = ("_fields", "_log")

    def __init__(self, log: AuditLog, fields: bytes) -> None:
        self._log = log
        self._fields = fields

    def executing(self) -> None:
        """Before the action."""
        self._log.write(_ENTRY % (_now(), EXECUTING, self._fields, b""), at_once=False)

    def executed(self, status: int | None) -> None:
        """After the answer with this status; None where there was none, as the client had gone."""
        code = b"null" if status is None else b"%d" % status
        self._log.write(_ENTRY % (_now(), EXECUTED, self._fields, b',"StatusCode":' + code))


class Audit:
    """Makes the entries of an action from its request. ``log``: None where nobody wants them."""

    def __init__(self, log: AuditLog | None, options: AuditOptions) -> None:
        self._log = log
        self._options = options
        self._prefix = options.header_prefix.encode("latin-1")

    def record(
        self, action: str, uri: str, headers: Iterable[tuple[bytes, bytes]], caller: str, claims: Mapping[str, Any]
    ) -> AuditRecord | None:
        """The entries of an action on ``uri``. ``headers`` as ASGI has them, ``caller`` its address.

        Raises BadRequest for more or longer audit headers than are taken.
        """
        custom: list[str] = []
        trace = b""
        for name, value in headers:
            if name.startswith(self._prefix):
                if len(value) > MAX_CUSTOM_HEADER_CHARACTERS:
                    raise BadRequest(
                        f"The value of a custom audit header is longer than {MAX_CUSTOM_HEADER_CHARACTERS} characters."
                    )
                custom.append(f"{name.decode('latin-1')}={value.decode('latin-1')}")
            elif name == b"traceparent":
                trace = value
        if len(custom) > MAX_CUSTOM_HEADERS:
            raise BadRequest(
                f"The request has {len(custom)} custom audit headers; at most {MAX_CUSTOM_HEADERS} are taken."
            )
        if self._log is None:
            return None
        fields = {
            "EventType": "AuditEvent",
            "Action": action,
            "RequestUri": uri,
            "Audience": self._options.audience,
            "Authority": self._options.authority,
            "CallerIpAddress": caller,
            "CorrelationId": _correlation_id(trace),
            "Claims": ";".join(
                f"{kind}={value}" for kind in self._options.claims for value in _values(claims.get(kind))
            ),
            "CustomHeaders": ";".join(custom),
        }
        return AuditRecord(self._log, msgspec.json.encode(fields)[1:-1])


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    return [item if isinstance(item, str) else msgspec.json.encode(item).decode() for item in _listed(value)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _correlation_id(trace_parent: bytes) -> str:
    """The caller's trace id (W3C Trace Context §3.2), or a new one."""
    found = _TRACE_PARENT.fullmatch(trace_parent) if trace_parent else None
    if found is not None and found[1] != _NO_TRACE:
        return found[1].decode()
    return os.urandom(16).hex()
