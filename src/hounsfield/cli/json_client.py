"""Asking a server for JSON: what the commands that look after a server have in common."""

import json
import socket
from dataclasses import dataclass
from typing import Any

from hounsfield.cli.connection import Connection, Patience, RequestRefused

Record = dict[str, Any]
"""A JSON object as the server sends it."""


@dataclass(frozen=True, slots=True)
class JsonClient:
    """Requests over one connection; ``retries`` is for GET only, as nothing else is harmless twice."""

    connection: Connection
    retries: int

    def told(self, method: str, target: str, what: str, body: Any = None) -> Any:
        """The JSON answered to a request; None where it has no content.

        ``what`` completes "the server refuses …". Raises RequestRefused, ServerUnreachable, ConnectionBroken.
        """
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"}
        if method != "GET":
            headers["Content-Length"] = str(len(content))
        if content:
            headers["Content-Type"] = "application/json"

        def send(connected: socket.socket) -> None:
            connected.sendall(content)

        patience = Patience(self.retries if method == "GET" else 0)
        answer = patience.try_until_answered(
            lambda: self.connection.ask(method, target, headers, send if content else None)
        )
        if answer.status not in (200, 202, 204):
            raise answer.refusal(what, ours=True)
        try:
            return json.loads(answer.body) if answer.body else None
        except ValueError as error:
            raise RequestRefused("The server's answer is not JSON; is it a Hounsfield server?") from error


def print_json(record: Record) -> None:
    """One object on one line, at once: for programs that read along."""
    print(json.dumps(record, separators=(",", ":")), flush=True)
