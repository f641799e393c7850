"""Operations for the walk of the OpenAPI documents: one that nobody works on, and one that has ended."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import httpx

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Transaction
from hounsfield.operations import engine

ACTIVE = "a" * 32
ENDED = "e" * 32


class Asked(Protocol):
    """An operation of a document."""

    client: httpx.Client
    path: str
    method: str


def make(data_dir: Path) -> None:
    """Put both into the index of a server: their kind is one that no worker knows."""
    asyncio.run(_make(f"sqlite:///{data_dir / 'index.db'}"))


async def _make(url: str) -> None:
    database = open_database(url)

    async def unit(tx: Transaction) -> None:
        for identifier, status in ((ACTIVE, "running"), (ENDED, "succeeded")):
            made = await engine.start(tx, "of tomorrow", {})
            await tx.execute("DELETE FROM operation_part WHERE operation_id = ?", made)
            await tx.execute("UPDATE operation SET id = ?, status = ? WHERE id = ?", identifier, status, made)

    await database.write(unit)
    await database.close()


def _on(identifier: str) -> Callable[[Asked], httpx.Response]:
    def send(operation: Asked) -> httpx.Response:
        return operation.client.request(operation.method, operation.path.replace("{operationId}", identifier))

    return send


PROVOKED: Mapping[tuple[str, str], Callable[[Asked], httpx.Response]] = {
    ("OperationStatus", "200"): _on(ENDED),
    ("OperationStatus", "202"): _on(ACTIVE),
    ("OperationStatus", "404"): _on("0" * 32),
    ("CancelOperation", "202"): _on(ACTIVE),
    ("CancelOperation", "404"): _on("0" * 32),
    ("CancelOperation", "409"): _on(ENDED),
}
